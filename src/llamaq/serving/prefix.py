"""Which texts the cache knows: a tree of pages by their tokens, in which a text finds its longest known beginning."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from llamaq.engine.kv_cache import PAGE_TOKENS, KVCache

__all__ = ["Node", "PrefixTree", "common_prefix"]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass(eq=False)
class Node:
    """A page and the tokens in it; only a full page has children, which are found by their tokens."""

    page: int
    tokens: tuple[int, ...]
    parent: Node | None
    depth: int = 0  # of the text's pages up to this one
    used: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)


class PrefixTree:
    """Holds pages of a cache after their sequences are gone, until the cache wants them back.

    The pages that nothing else uses and that were not asked for longest go first.
    """

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._clock = 0
        self.root = Node(-1, (), None)
        # Not a bound method: cache and tree would wait for the garbage collector to be freed.
        tree = weakref.ref(self)
        cache.evict = lambda pages: tree().evict(pages) if tree() else None  # type: ignore[union-attr]

    def find(self, tokens: Sequence[int], *, touch: bool = True) -> tuple[list[int], int]:
        """Pages of the longest known beginning of ``tokens``, and how many of the tokens they hold."""
        node, pages, length = self.root, [], 0
        self._clock += touch
        while True:
            key = tuple(tokens[length : length + PAGE_TOKENS])
            child = node.children.get(key) if len(key) == PAGE_TOKENS else None
            if child is None:
                break
            node, length = child, length + PAGE_TOKENS
            pages.append(node.page)
            node.used = self._clock if touch else node.used
        if node.children and key:
            best = max(node.children.values(), key=lambda child: common_prefix(child.tokens, key))
            if shared := common_prefix(best.tokens, key):
                best.used = self._clock if touch else best.used
                return [*pages, best.page], length + shared
        return pages, length

    def insert(self, sequence: int, tokens: Sequence[int], after: Node, *, partial: bool = False) -> Node:
        """Adds the sequence's full pages that follow ``after``, and where ``partial`` the page begun last; ``tokens``
        is what the sequence holds. Returns the node of the last full page.

        Where the tree knows the same tokens already, the sequence gets that page and its own is free: equal tokens
        have equal keys and values.
        """
        pages = self._cache.pages(sequence)
        self._clock += 1
        above: Node | None = after
        while above is not None:  # no page was used later than the one before it
            above.used, above = self._clock, above.parent
        for i in range(after.depth, len(tokens) // PAGE_TOKENS):
            key = tuple(tokens[i * PAGE_TOKENS : (i + 1) * PAGE_TOKENS])
            after = self._child(after, key, pages[i])
            if after.page != pages[i]:
                self._cache.replace(sequence, i, after.page)
        rest = tuple(tokens[len(tokens) // PAGE_TOKENS * PAGE_TOKENS :])
        if partial and rest and all(key[: len(rest)] != rest for key in after.children):
            self._child(after, rest, pages[len(tokens) // PAGE_TOKENS])
        return after

    def evict(self, pages: int) -> None:
        """Lets go of so many pages, or all that nothing else uses."""
        unused = [node for node in self._nodes(self.root) if self._cache.users(node.page) == 1]
        # A child was never used later than its parent: so children go first.
        for node in sorted(unused, key=lambda node: (node.used, -node.depth))[:pages]:
            self._remove(node)

    def _child(self, parent: Node, key: tuple[int, ...], page: int) -> Node:
        known = parent.children.get(key)
        if known is None:
            for old in [k for k in parent.children if key[: len(k)] == k]:  # partial pages that this one goes on
                self._remove(parent.children[old])
            known = parent.children[key] = Node(page, key, parent, parent.depth + 1)
            self._cache.hold(page)
        known.used = self._clock
        return known

    def _remove(self, node: Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.tokens]
        self._cache.release(node.page)

    def _nodes(self, node: Node) -> Iterator[Node]:
        stack = list(node.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())
