"""The paged key-value cache: pages of a fixed number of tokens, and a table of pages for each sequence and cache group.

Pages are counted, so that sequences with the same beginning share them; the first write into a shared page goes to
a copy. Layers with a window keep pages near a sequence's end alone, so that their group needs room for a few windows,
not for whole texts. Python owns the memory and the bookkeeping; the kernels read and write the pages that a step names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.engine.page_pool import GONE, PAGE_TOKENS, PagePool
from llamaq.errors import ContextOverflowError, InsufficientMemoryError, ModelError
from llamaq.formats import Format, format_by_name
from llamaq.plan.op import CacheLayer
from llamaq.plan.plan import CacheGroup, Plan

__all__ = ["CACHE_TYPES", "PAGE_TOKENS", "CacheType", "KVCache", "Pages", "cache_bytes", "group_bytes"]

CacheType = Literal["f16", "f32", "q8_0", "q4_0"]
CACHE_TYPES: tuple[CacheType, ...] = ("f16", "f32", "q8_0", "q4_0")

Pages: TypeAlias = tuple[int, ...]
"""The page of each group that holds the same tokens; ``GONE`` where it is not kept."""

_TEXTS = 8  # for so many texts at once a group with a window has room


def format_of(cache_type: CacheType) -> Format:
    """The GGUF format of the cache's elements."""
    return format_by_name(cache_type.upper())


def cache_bytes(
    plan: Plan, n_ctx: int, cache_type: CacheType = "f16", *, max_rows: int | None = None, texts: int = _TEXTS
) -> int:
    """Bytes of the keys and values of ``n_ctx`` tokens, rounded up to whole pages; the rest as for ``group_bytes``.

    Raises ``ModelError`` for a type whose blocks the model's heads do not fill.
    """
    return sum(group_bytes(group, n_ctx, cache_type, max_rows=max_rows, texts=texts) for group in plan.caches)


def group_bytes(
    group: CacheGroup, n_ctx: int, cache_type: CacheType, *, max_rows: int | None = None, texts: int = _TEXTS
) -> int:
    """Bytes of one group of a cache of ``n_ctx`` tokens. With a window it has room for ``texts`` at once, of which
    steps read ``max_rows`` tokens together (None: up to ``n_ctx``). Raises ``ModelError`` as ``cache_bytes``."""
    return _n_pages(group, n_ctx, max_rows, texts) * sum(_page_bytes(layer, cache_type) for layer in group.layers)


def _n_pages(group: CacheGroup, n_ctx: int, max_rows: int | None, texts: int) -> int:
    pages = -(-n_ctx // PAGE_TOKENS)
    seen, max_rows = min(group.window or n_ctx, group.chunk or n_ctx), max_rows or n_ctx
    # Two pages more for each text: the window and the step begin and end within a page.
    return min(pages, texts * (-(-seen // PAGE_TOKENS) + 2) + -(-max_rows // PAGE_TOKENS))


def _page_bytes(layer: CacheLayer, cache_type: CacheType) -> int:
    """Bytes of one page of a layer: the keys and values of 32 tokens."""
    fmt = format_of(cache_type)
    for dim in (layer.head_dim, layer.value_dim):
        if dim % fmt.block:
            raise ModelError(
                f"a {cache_type} cache needs heads of a multiple of {fmt.block} dimensions, the model's have {dim}; "
                "use an f16 cache (--cache-type f16)"
            )
    return layer.kv_heads * _core.page_bytes(layer.head_dim, layer.value_dim, fmt.id)


class KVCache:
    """Room for ``n_ctx`` tokens, shared by any number of sequences; ``max_rows`` and ``texts`` as for ``group_bytes``.

    One thread at a time may use a cache. ``evict``, where it is set, is asked for a number of pages of a group when
    there are no free ones (it calls ``release``).
    Raises ``InsufficientMemoryError`` where the system does not even grant the reservation.
    """

    def __init__(
        self, plan: Plan, n_ctx: int, cache_type: CacheType = "f16", *, max_rows: int | None = None, texts: int = _TEXTS
    ) -> None:
        self.n_ctx = n_ctx
        self.cache_type: CacheType = cache_type
        self.evict: Callable[[int, int], None] = lambda group, pages: None
        self._max_rows = max_rows or n_ctx
        sizes = [[_page_bytes(layer, cache_type) for layer in group.layers] for group in plan.caches]
        try:
            self.pools = [
                PagePool(size, _n_pages(group, n_ctx, max_rows, texts), group.window, group.chunk)
                for size, group in zip(sizes, plan.caches, strict=True)
            ]
        except MemoryError:
            size = cache_bytes(plan, n_ctx, cache_type, max_rows=max_rows, texts=texts)
            raise InsufficientMemoryError(
                f"the cache of {n_ctx} tokens needs {size} bytes, which the system refuses; ask for a shorter context",
                needed=size, available=0,
            ) from None  # fmt: skip
        self._pages: dict[int, list[list[int]]] = {}
        self._lengths: dict[int, int] = {}

    def close(self) -> None:
        """Frees the memory at once."""
        for pool in self.pools:
            pool.close()

    def length(self, sequence: int) -> int:
        """Tokens of the sequence that the cache holds."""
        return self._lengths.get(sequence, 0)

    def pages(self, sequence: int) -> list[Pages]:
        """The sequence's pages in order."""
        return list(zip_longest(*self._pages.get(sequence, ()), fillvalue=GONE))

    @property
    def free_tokens(self) -> int:
        """Tokens for which there are unused pages in the group that keeps most."""
        return max((pool.free for pool in self.pools), default=0) * PAGE_TOKENS

    def by_layer(self) -> list[NDArray[np.uint8]]:
        """The memory of each layer, group by group, as (pages, bytes): views."""
        return [layer for pool in self.pools for layer in pool.layers]

    def reserve(self, sequence: int, length: int) -> None:
        """Gives the sequence pages for ``length`` tokens, all or nothing; what it is going to write is its own then.
        Groups with a window let go of what no later token sees, and give pages for one step's tokens at most.

        Raises ``ContextOverflowError`` where the cache is full.
        """
        start = self.length(sequence)
        tables = self._pages.setdefault(sequence, [[] for _ in self.pools])
        wanted = []
        for group, (pool, table) in enumerate(zip(self.pools, tables, strict=True)):
            self._let_go(pool, table, pool.first_page(start))
            end = min(length, start + self._max_rows) if pool.limited else length
            at = start // PAGE_TOKENS
            shared = start < length and at < len(table) and pool.users(table[at]) > 1
            more = max(0, -(-end // PAGE_TOKENS) - len(table))
            if more + shared > pool.free:
                self.evict(group, more + shared - pool.free)
            if more + shared > pool.free:
                available = min(len(table) * PAGE_TOKENS + pool.free * PAGE_TOKENS, self.n_ctx)
                raise ContextOverflowError(
                    f"sequence {sequence} needs room for {length} tokens, the cache has room for {available}; "
                    "raise the context size (-c) or shorten the text",
                    needed=length, available=available,
                )  # fmt: skip
            wanted.append((pool, table, more, at if shared else None))
        for pool, table, more, copied in wanted:
            if copied is not None:
                own = pool.copy(table[copied])
                pool.release(table[copied])
                table[copied] = own
            table.extend(pool.take() for _ in range(more))

    def place(self, sequence: int, length: int) -> None:
        """Makes a new sequence of ``length`` tokens, with pages of its own, not yet written, for what a later token
        sees of them. Raises ``ContextOverflowError`` where the cache is full."""
        self.drop(sequence)
        ends = [(pool, pool.first_page(length), -(-length // PAGE_TOKENS)) for pool in self.pools]
        for group, (pool, first, end) in enumerate(ends):
            if end - first > pool.free:
                self.evict(group, end - first - pool.free)
            if end - first > pool.free:
                available = pool.free * PAGE_TOKENS
                raise ContextOverflowError(
                    f"{length} tokens find room for {available} in the cache; raise the context size (-c)",
                    needed=length, available=available,
                )  # fmt: skip
        self._pages[sequence] = [
            [GONE] * first + [pool.take() for _ in range(end - first)] for pool, first, end in ends
        ]
        self._lengths[sequence] = length

    def commit(self, sequence: int, length: int) -> None:
        """Says that a forward has written the sequence up to ``length`` tokens."""
        self._lengths[sequence] = length

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets the tokens from ``length`` on and lets go of their pages. Raises ``ValueError`` where a window has
        let go of pages that the next token would see."""
        if length >= self.length(sequence):
            return
        keep = -(-length // PAGE_TOKENS)
        tables = list(zip(self.pools, self._pages[sequence], strict=True))
        if any(GONE in table[pool.first_page(length) : keep] for pool, table in tables):
            raise ValueError(
                f"sequence {sequence} has {self.length(sequence)} tokens; its windows no longer have what stands before"
                f" token {length}: read it anew"
            )
        for pool, table in tables:
            for page in reversed(table[keep:]):
                pool.release(page)
            del table[keep:]
        self._lengths[sequence] = length

    def drop(self, sequence: int) -> None:
        """Forgets the sequence."""
        for pool, table in zip(self.pools, self._pages.pop(sequence, [[] for _ in self.pools]), strict=True):
            for page in reversed(table):
                pool.release(page)
        self._lengths.pop(sequence, None)

    def adopt(self, sequence: int, pages: Sequence[Pages], length: int) -> None:
        """Makes a new sequence of ``length`` tokens from pages that others hold; nothing is copied."""
        self.drop(sequence)
        tables = [list(table) for table in zip(*pages, strict=True)] or [[] for _ in self.pools]
        for pool, table in zip(self.pools, tables, strict=True):
            first = min(pool.first_page(length), len(table))
            table[:first] = [GONE] * first
            for page in table:
                pool.hold(page)
        self._pages[sequence] = tables
        self._lengths[sequence] = length

    def replace(self, sequence: int, index: int, pages: Pages) -> None:
        """Puts other pages, with the same keys and values, in the place of those that the sequence has."""
        for pool, table, page in zip(self.pools, self._pages[sequence], pages, strict=True):
            if index < len(table) and table[index] != GONE and page not in (GONE, table[index]):
                pool.hold(page)
                pool.release(table[index])
                table[index] = page

    def table(self, group: int, sequences: Sequence[int]) -> NDArray[np.int32]:
        """Page numbers of these sequences in a group, int32 (sequences, most pages), padded with -1."""
        rows = [self._pages[sequence][group] if sequence in self._pages else [] for sequence in sequences]
        table = np.full((len(rows), max(map(len, rows), default=0)), GONE, np.int32)
        for row, pages in zip(table, rows, strict=True):
            row[: len(pages)] = pages
        return table

    @staticmethod
    def _let_go(pool: PagePool, table: list[int], first: int) -> None:
        """Lets go of pages before ``first``."""
        for i in range(min(first, len(table)) - 1, -1, -1):
            if table[i] == GONE:
                break
            pool.release(table[i])
            table[i] = GONE
