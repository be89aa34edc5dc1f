"""The paged key-value cache: pages of a fixed number of tokens, and a table of pages for each sequence.

Pages are counted, so that sequences with the same beginning share them; the first write into a shared page goes to
a copy. Python owns the memory and the bookkeeping; the kernels read and write the pages that a step names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.errors import ContextOverflowError, InsufficientMemoryError, ModelError
from llamaq.formats import Format, format_by_name
from llamaq.plan.op import CacheLayer
from llamaq.plan.plan import Plan

__all__ = ["CACHE_TYPES", "PAGE_TOKENS", "CacheType", "KVCache", "cache_bytes"]

CacheType = Literal["f16", "f32", "q8_0", "q4_0"]
CACHE_TYPES: tuple[CacheType, ...] = ("f16", "f32", "q8_0", "q4_0")
PAGE_TOKENS = _core.PAGE_TOKENS


def format_of(cache_type: CacheType) -> Format:
    """The GGUF format of the cache's elements."""
    return format_by_name(cache_type.upper())


def cache_bytes(plan: Plan, n_ctx: int, cache_type: CacheType = "f16") -> int:
    """Bytes of the keys and values of ``n_ctx`` tokens, rounded up to whole pages.

    Raises ``ModelError`` for a type whose blocks the model's heads do not fill.
    """
    pages = -(-n_ctx // PAGE_TOKENS)
    return pages * sum(_page_bytes(layer, cache_type) for group in plan.caches for layer in group.layers)


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
    """Room for ``n_ctx`` tokens, shared by any number of sequences.

    Memory is reserved at once and taken from the system as it is first written. One thread at a time may use a cache.
    ``evict``, where it is set, is asked for a number of pages when there are no free ones (it calls ``release``).
    Raises ``InsufficientMemoryError`` where the system does not even grant the reservation.
    """

    def __init__(self, plan: Plan, n_ctx: int, cache_type: CacheType = "f16") -> None:
        self.n_ctx = n_ctx
        self.cache_type: CacheType = cache_type
        self.evict: Callable[[int], None] = lambda pages: None
        size = cache_bytes(plan, n_ctx, cache_type)
        self._n_pages = -(-n_ctx // PAGE_TOKENS)
        sizes = [[_page_bytes(layer, cache_type) for layer in group.layers] for group in plan.caches]
        try:
            self.groups: list[NDArray[np.uint8]] = [np.zeros(self._n_pages * sum(group), np.uint8) for group in sizes]
        except MemoryError:
            raise InsufficientMemoryError(
                f"the cache of {n_ctx} tokens needs {size} bytes, which the system refuses; ask for a shorter context",
                needed=size, available=0,
            ) from None  # fmt: skip
        self._layers = [
            layer.reshape(self._n_pages, size)
            for data, group in zip(self.groups, sizes, strict=True)
            for layer, size in zip(np.split(data, np.cumsum(group[:-1]) * self._n_pages), group, strict=True)
        ]
        self._untouched = self._n_pages  # the last ones: a context may claim many millions
        self._users: list[int] = []  # of each page before them
        self._free: list[int] = []  # pages before them that nobody uses
        self._pages: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}

    def close(self) -> None:
        """Frees the memory at once."""
        self.groups, self._layers = [np.zeros(0, np.uint8) for _ in self.groups], []
        self._free.clear()
        self._untouched = 0

    def length(self, sequence: int) -> int:
        """Tokens of the sequence that the cache holds."""
        return self._lengths.get(sequence, 0)

    def pages(self, sequence: int) -> list[int]:
        """The sequence's pages in order."""
        return list(self._pages.get(sequence, ()))

    def users(self, page: int) -> int:
        """How many sequences and others hold the page."""
        return self._users[page]

    @property
    def free_tokens(self) -> int:
        """Tokens for which there are unused pages."""
        return self._free_pages * PAGE_TOKENS

    @property
    def _free_pages(self) -> int:
        return len(self._free) + self._untouched

    def by_layer(self) -> list[NDArray[np.uint8]]:
        """The memory of each layer, group by group, as (pages, bytes): views."""
        return self._layers

    @property
    def page_shape(self) -> tuple[int, int]:
        """Layers and bytes of a page in each; where layers differ, 1 and the bytes of all."""
        sizes = [layer.shape[1] for layer in self._layers]
        return (len(sizes), sizes[0]) if len(set(sizes)) == 1 else (1, sum(sizes))

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of pages, (pages, *page_shape)."""
        found = np.concatenate([layer[list(pages)] for layer in self._layers], axis=1)
        return found.reshape(len(pages), *self.page_shape)

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Puts into pages what ``read_pages`` gave."""
        ends = np.cumsum([layer.shape[1] for layer in self._layers])
        parts = np.split(data.reshape(len(pages), ends[-1]), ends[:-1], axis=1)
        for layer, part in zip(self._layers, parts, strict=True):
            layer[list(pages)] = part

    def reserve(self, sequence: int, length: int) -> None:
        """Gives the sequence pages for ``length`` tokens, all or nothing; what it is going to write is its own then.

        Raises ``ContextOverflowError`` where the cache is full.
        """
        pages = self._pages.setdefault(sequence, [])
        start = self.length(sequence)
        at = start // PAGE_TOKENS
        shared = start < length and at < len(pages) and self._users[pages[at]] > 1
        wanted = max(0, -(-length // PAGE_TOKENS) - len(pages)) + shared
        if wanted > self._free_pages:
            self.evict(wanted - self._free_pages)
        if wanted > self._free_pages:
            available = len(pages) * PAGE_TOKENS + self.free_tokens
            raise ContextOverflowError(
                f"sequence {sequence} needs room for {length} tokens, the cache has room for {available}; "
                "raise the context size (-c) or shorten the text",
                needed=length, available=available,
            )  # fmt: skip
        if shared:
            own = self.take()
            for layer in self._layers:
                layer[own] = layer[pages[at]]
            self.replace(sequence, at, own)
            self.release(own)
        pages.extend(self.take() for _ in range(-(-length // PAGE_TOKENS) - len(pages)))

    def commit(self, sequence: int, length: int) -> None:
        """Says that a forward has written the sequence up to ``length`` tokens."""
        self._lengths[sequence] = length

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets the tokens from ``length`` on and lets go of their pages."""
        if length >= self.length(sequence):
            return
        pages = self._pages[sequence]
        keep = -(-length // PAGE_TOKENS)
        for page in reversed(pages[keep:]):
            self.release(page)
        del pages[keep:]
        self._lengths[sequence] = length

    def drop(self, sequence: int) -> None:
        """Forgets the sequence."""
        for page in reversed(self._pages.pop(sequence, [])):
            self.release(page)
        self._lengths.pop(sequence, None)

    def adopt(self, sequence: int, pages: Sequence[int], length: int) -> None:
        """Makes a new sequence of ``length`` tokens from pages that others hold; nothing is copied."""
        self.drop(sequence)
        for page in pages:
            self.hold(page)
        self._pages[sequence] = list(pages)
        self._lengths[sequence] = length

    def replace(self, sequence: int, index: int, page: int) -> None:
        """Puts another page, with the same keys and values, in the place of one of the sequence's."""
        self.hold(page)
        self.release(self._pages[sequence][index])
        self._pages[sequence][index] = page

    def take(self) -> int:
        """A free page, held once."""
        if not self._free and self._untouched:
            self._untouched -= 1
            self._free.append(len(self._users))
            self._users.append(0)
        page = self._free.pop()
        self._users[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One more user of a page that is in use."""
        self._users[page] += 1

    def release(self, page: int) -> None:
        """One user less; without any the page is free."""
        self._users[page] -= 1
        if self._users[page] == 0:
            self._free.append(page)

    def table(self, sequences: Sequence[int]) -> NDArray[np.int32]:
        """Page numbers of these sequences, int32 (sequences, most pages), padded with -1."""
        rows = [self._pages.get(sequence, []) for sequence in sequences]
        table = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
        for row, pages in zip(table, rows, strict=True):
            row[: len(pages)] = pages
        return table
