"""The paged key-value cache: pages of a fixed number of tokens, and a table of pages for each sequence.

Python owns the memory and the bookkeeping; the kernels read and write the pages that a step names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.errors import ContextOverflowError, InsufficientMemoryError, ModelError
from llamaq.formats import Format, format_by_name
from llamaq.graph import Plan

__all__ = ["CACHE_TYPES", "CacheType", "KVCache", "cache_bytes"]

CacheType = Literal["f16", "f32", "q8_0", "q4_0"]
CACHE_TYPES: tuple[CacheType, ...] = ("f16", "f32", "q8_0", "q4_0")


def format_of(cache_type: CacheType) -> Format:
    """The GGUF format of the cache's elements."""
    return format_by_name(cache_type.upper())


def cache_bytes(plan: Plan, n_ctx: int, cache_type: CacheType = "f16") -> int:
    """Bytes of the keys and values of ``n_ctx`` tokens, rounded up to whole pages.

    Raises ``ModelError`` for a type whose blocks the model's heads do not fill.
    """
    pages = -(-n_ctx // _core.PAGE_TOKENS)
    layers, kv_heads, head_dim = plan.cache_shape
    fmt = format_of(cache_type)
    if head_dim % fmt.block:
        raise ModelError(
            f"a {cache_type} cache needs heads of a multiple of {fmt.block} dimensions, the model's have {head_dim}; "
            "use an f16 cache (--cache-type f16)"
        )
    return pages * layers * kv_heads * _core.page_bytes(head_dim, fmt.id)


class KVCache:
    """Room for ``n_ctx`` tokens, shared by any number of sequences.

    Memory is reserved at once and taken from the system as it is first written. Raises
    ``InsufficientMemoryError`` where the system does not even grant the reservation.
    """

    def __init__(self, plan: Plan, n_ctx: int, cache_type: CacheType = "f16") -> None:
        self.n_ctx = n_ctx
        self.cache_type: CacheType = cache_type
        size = cache_bytes(plan, n_ctx, cache_type)
        try:
            self.data: NDArray[np.uint8] = np.zeros(size, np.uint8)
        except MemoryError:
            raise InsufficientMemoryError(
                f"the cache of {n_ctx} tokens needs {size} bytes, which the system refuses; ask for a shorter context",
                needed=size, available=0,
            ) from None  # fmt: skip
        self._free = list(range(-(-n_ctx // _core.PAGE_TOKENS) - 1, -1, -1))
        self._pages: dict[int, list[int]] = {}
        self._lengths: dict[int, int] = {}

    def close(self) -> None:
        """Frees the memory at once."""
        self.data = np.zeros(0, np.uint8)
        self._free.clear()

    def length(self, sequence: int) -> int:
        """Tokens of the sequence that the cache holds."""
        return self._lengths.get(sequence, 0)

    @property
    def free_tokens(self) -> int:
        """Tokens for which there are unused pages."""
        return len(self._free) * _core.PAGE_TOKENS

    def reserve(self, sequence: int, length: int) -> None:
        """Gives the sequence pages for ``length`` tokens; all or nothing.

        Raises ``ContextOverflowError`` where the cache is full.
        """
        pages = self._pages.setdefault(sequence, [])
        wanted = -(-length // _core.PAGE_TOKENS) - len(pages)
        if wanted > len(self._free):
            available = len(pages) * _core.PAGE_TOKENS + self.free_tokens
            raise ContextOverflowError(
                f"sequence {sequence} needs room for {length} tokens, the cache has room for {available}; "
                "raise the context size (-c) or shorten the text",
                needed=length, available=available,
            )  # fmt: skip
        for _ in range(wanted):
            pages.append(self._free.pop())

    def commit(self, sequence: int, length: int) -> None:
        """Says that a forward has written the sequence up to ``length`` tokens."""
        self._lengths[sequence] = length

    def truncate(self, sequence: int, length: int) -> None:
        """Forgets the tokens from ``length`` on and frees their pages."""
        if length >= self.length(sequence):
            return
        pages = self._pages[sequence]
        keep = -(-length // _core.PAGE_TOKENS)
        self._free.extend(reversed(pages[keep:]))
        del pages[keep:]
        self._lengths[sequence] = length

    def drop(self, sequence: int) -> None:
        """Forgets the sequence."""
        self._free.extend(reversed(self._pages.pop(sequence, [])))
        self._lengths.pop(sequence, None)

    def table(self, sequences: Sequence[int]) -> NDArray[np.int32]:
        """Page numbers of these sequences, int32 (sequences, most pages), padded with -1."""
        rows = [self._pages.get(sequence, []) for sequence in sequences]
        table = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int32)
        for row, pages in zip(table, rows, strict=True):
            row[: len(pages)] = pages
        return table
