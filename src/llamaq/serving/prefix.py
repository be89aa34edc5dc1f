"""Which texts the cache knows: a tree of pages by their tokens, in which a text finds its longest known beginning."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache, Pages
from llamaq.engine.page_pool import GONE

__all__ = ["Mark", "Node", "PrefixTree", "common_prefix"]


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """How many tokens two sequences share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


Mark: TypeAlias = tuple[tuple[str, float], ...]
"""What keys and values of a text depend on beside its tokens: the key of its ``Adaptation``."""
Key: TypeAlias = tuple["int | Mark", ...]
"""The tokens of a page; of a text's first page behind its mark, where it has one."""


@dataclass(eq=False)
class Node:
    """A page of each cache group and the tokens in it; only a full page has children, which are found by their tokens.

    A group without a window always has its page; those with one may have let go of theirs.
    """

    pages: list[int]
    tokens: Key
    parent: Node | None
    depth: int = 0  # pages of the text up to this one
    used: int = 0
    """When it was last on a text's way."""
    seen: int = 0
    """When it was last among what a text's next token sees through a window."""
    children: dict[Key, Node] = field(default_factory=dict)


class PrefixTree:
    """Holds pages of a cache after their sequences are gone, until the cache wants them back.

    The pages that nothing else uses and that were not asked for longest go first. A text's beginning is of use where
    each group has what the next token sees: windows need the pages just before it, and no earlier ones, a state
    the last. Texts with another ``mark`` have other pages: it stands in the key of a text's first page.
    """

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._clock = 0
        self.root = Node([], (), None)
        # A bound method would not do: cache and tree would wait for the garbage collector to be freed.
        tree = weakref.ref(self)
        cache.evict = lambda group, pages: tree().evict(group, pages) if tree() else None  # type: ignore[union-attr]

    def find(
        self,
        tokens: Sequence[int],
        *,
        mark: Mark = (),
        limit: int | None = None,
        whole: bool = False,
        touch: bool = True,
    ) -> tuple[list[Pages], int]:
        """Pages of the longest known beginning of ``tokens`` up to ``limit`` from which reading can go on, and how many
        of the tokens they hold; ``whole``: full pages alone."""
        nodes, length = self._way(tokens, mark)
        length = length if limit is None else min(length, limit)
        whole = whole or self._cache.states is not None  # states are kept for full pages alone
        length = self._readable(nodes, length // PAGE_TOKENS * PAGE_TOKENS if whole else length)
        nodes = nodes[: -(-length // PAGE_TOKENS)]
        if touch:
            self._clock += 1
            first = min((pool.needed(length).start for pool in self._cache.pools if pool.limited), default=len(nodes))
            for i, node in enumerate(nodes):
                node.used = self._clock
                node.seen = self._clock if i >= first else node.seen
        return [tuple(node.pages) for node in nodes], length

    def shared(self, tokens: Sequence[int], mark: Mark = ()) -> int:
        """How many of the first tokens a text has that it knows, whether reading can go on there or not."""
        return self._way(tokens, mark)[1]

    def insert(
        self, sequence: int, tokens: Sequence[int], after: Node, *, mark: Mark = (), partial: bool = False
    ) -> Node:
        """Adds the sequence's full pages that follow ``after``, and where ``partial`` the page begun last, unless it
        would need a state; ``tokens`` is what the sequence holds. Returns the node of the last full page.

        Where the tree knows the same tokens already, the sequence gets that page and its own is free: equal tokens
        have equal keys and values.
        """
        pages = self._cache.pages(sequence)
        self._clock += 1
        above: Node | None = after
        while above is not None:  # no page was used later than the one before it
            above.used, above = self._clock, above.parent
        for i in range(after.depth, len(tokens) // PAGE_TOKENS):
            key = self._key(after, tokens[i * PAGE_TOKENS : (i + 1) * PAGE_TOKENS], mark)
            after = self._child(after, key, pages[i])
            self._cache.replace(sequence, i, tuple(after.pages))
        begun = tokens[len(tokens) // PAGE_TOKENS * PAGE_TOKENS :]
        rest = self._key(after, begun, mark)
        if partial and begun and self._cache.states is None and all(key[: len(rest)] != rest for key in after.children):
            self._child(after, rest, pages[len(tokens) // PAGE_TOKENS])
        return after

    def clear(self) -> None:
        """Lets go of everything."""
        for node in self._nodes(self.root):
            for pool, page in zip(self._cache.pools, node.pages, strict=True):
                pool.release(page)
        self.root.children.clear()

    def evict(self, group: int, pages: int) -> None:
        """Lets go of so many pages of a group, or all that nothing else uses."""
        pool = self._cache.pools[group]
        nodes = [n for n in self._nodes(self.root) if n.pages[group] != GONE and pool.users(n.pages[group]) == 1]
        if pool.limited:  # the pages nearest to a text's end stay longest
            for node in sorted(nodes, key=lambda node: (node.seen, node.depth))[:pages]:
                pool.release(node.pages[group])
                node.pages[group] = GONE
                self._prune(node)
        else:  # a child was never used later than its parent: so children go first
            for node in sorted(nodes, key=lambda node: (node.used, -node.depth))[:pages]:
                self._remove(node)

    def _key(self, parent: Node, page: Sequence[int], mark: Mark) -> Key:
        """What a page is found by below its parent."""
        return (mark, *page) if mark and parent is self.root else tuple(page)

    def _way(self, tokens: Sequence[int], mark: Mark) -> tuple[list[Node], int]:
        """The nodes that share a beginning with ``tokens``, and its length."""
        node, nodes, length = self.root, [], 0
        while True:
            page = tokens[length : length + PAGE_TOKENS]
            key = self._key(node, page, mark)
            child = node.children.get(key) if len(page) == PAGE_TOKENS else None
            if child is None:
                break
            node, length = child, length + PAGE_TOKENS
            nodes.append(node)
        if node.children and page:
            best = max(node.children.values(), key=lambda child: common_prefix(child.tokens, key))
            shared = common_prefix(best.tokens, key) - (len(key) - len(page))
            if shared > 0:
                return [*nodes, best], length + shared
        return nodes, length

    def _readable(self, nodes: Sequence[Node], length: int) -> int:
        """The longest beginning up to ``length`` behind which each group has what the next token sees."""
        while True:
            missing = [
                i
                for group, pool in enumerate(self._cache.pools)
                if pool.limited
                for i in pool.needed(length)
                if nodes[i].pages[group] == GONE
            ]
            if not missing:
                return length
            length = max(missing) * PAGE_TOKENS

    def _child(self, parent: Node, key: Key, pages: Pages) -> Node:
        known = parent.children.get(key)
        if known is None:
            for old in [k for k in parent.children if key[: len(k)] == k]:  # partial pages that this one goes on
                self._remove(parent.children[old])
            known = parent.children[key] = Node([GONE] * len(pages), key, parent, parent.depth + 1)
        for group, (pool, page) in enumerate(zip(self._cache.pools, pages, strict=True)):
            if known.pages[group] == GONE:
                pool.hold(page)
                known.pages[group] = page
        known.used = known.seen = self._clock
        return known

    def _remove(self, node: Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.tokens]
        for pool, page in zip(self._cache.pools, node.pages, strict=True):
            pool.release(page)

    def _prune(self, node: Node) -> None:
        """Forgets a page that no group keeps, and those before it that were kept for its sake."""
        while node.parent is not None and not node.children and all(page == GONE for page in node.pages):
            self._remove(node)
            node = node.parent

    def _nodes(self, node: Node) -> Iterator[Node]:
        stack = list(node.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())
