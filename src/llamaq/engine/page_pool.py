"""The pages of one cache group, or the states of sequences: their memory, and how many users each has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq import _core

__all__ = ["GONE", "PAGE_TOKENS", "PagePool", "StatePool"]

PAGE_TOKENS = _core.PAGE_TOKENS

GONE = -1
"""Stands for a page that is no longer kept."""


_LINE = 64  # bytes of a cache line, and of the widest register


def _lines(nbytes: int) -> NDArray[np.uint8]:
    """Zeros that begin with a cache line: NumPy aligns to 16 bytes, and each wide load would touch two lines."""
    data = np.zeros(nbytes + _LINE - 1, np.uint8)
    start = -data.ctypes.data % _LINE
    return data[start : start + nbytes]


class PagePool:
    """``n_pages`` pages of layers that take ``sizes`` bytes of each page.

    A token sees those of the last ``window`` tokens that are in its own ``chunk`` of positions (0: all), and earlier
    pages need not be kept. Memory is reserved at once and taken from the system as it is first written.
    """

    def __init__(self, sizes: Sequence[int], n_pages: int, window: int, chunk: int) -> None:
        self.window, self.chunk = window, chunk
        self.data = _lines(n_pages * sum(sizes))
        parts = np.split(self.data, np.cumsum(sizes[:-1]) * n_pages)
        self.layers: list[NDArray[np.uint8]] = [x.reshape(n_pages, size) for x, size in zip(parts, sizes, strict=True)]
        """The memory of each layer as (pages, bytes): views."""
        self._untouched = n_pages  # these are the last ones: a context may claim many millions
        self._users: list[int] = []  # users of each page before them
        self._free: list[int] = []  # pages before them that nobody uses

    def close(self) -> None:
        """Frees the memory at once."""
        self.data, self.layers = np.zeros(0, np.uint8), []
        self._free.clear()
        self._untouched = 0

    @property
    def limited(self) -> bool:
        """Whether tokens far back are no longer seen."""
        return bool(self.window or self.chunk)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and bytes of a page in each; where layers differ, 1 and the bytes of all."""
        sizes = [layer.shape[1] for layer in self.layers]
        return (len(sizes), sizes[0]) if len(set(sizes)) == 1 else (1, sum(sizes))

    @property
    def free(self) -> int:
        """Pages that nobody uses."""
        return len(self._free) + self._untouched

    def needed(self, length: int) -> range:
        """The pages of a text of ``length`` tokens of which the next token, or any later one, sees something."""
        first = max(0, length - self.window + 1) if self.window else 0
        first = max(first, length - length % self.chunk if self.chunk else 0)
        return range(first // PAGE_TOKENS, -(-length // PAGE_TOKENS))

    def users(self, page: int) -> int:
        """How many sequences and others hold the page."""
        return self._users[page]

    def take(self) -> int:
        """A free page, held once."""
        if not self._free and self._untouched:
            self._untouched -= 1
            self._free.append(len(self._users))
            self._users.append(0)
        page = self._free.pop()
        self._users[page] = 1
        return page

    def copy(self, page: int) -> int:
        """A free page with the contents of another, held once."""
        own = self.take()
        for layer in self.layers:
            layer[own] = layer[page]
        return own

    def hold(self, page: int) -> None:
        """One more user of a page that is in use; none of one that is gone."""
        if page != GONE:
            self._users[page] += 1

    def release(self, page: int) -> None:
        """One user less; without any the page is free."""
        if page == GONE:
            return
        self._users[page] -= 1
        if self._users[page] == 0:
            self._free.append(page)

    def read(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of pages, (pages, *shape)."""
        found = np.concatenate([layer[list(pages)] for layer in self.layers], axis=1)
        return found.reshape(len(pages), *self.shape)

    def write(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Puts into pages what ``read`` gave."""
        ends = np.cumsum([layer.shape[1] for layer in self.layers])
        parts = np.split(data.reshape(len(pages), ends[-1]), ends[:-1], axis=1)
        for layer, part in zip(self.layers, parts, strict=True):
            layer[list(pages)] = part


class StatePool(PagePool):
    """What sequences keep beside the cache, in slots that are written once: a state is that of a number of tokens, and
    the next step makes a new one of it. As a page it is the state at the page's end, and a text can go on from there
    alone."""

    def __init__(self, sizes: Sequence[int], n_slots: int) -> None:
        super().__init__(sizes, n_slots, 0, 0)

    @property
    def limited(self) -> bool:
        return True

    def needed(self, length: int) -> range:
        pages = -(-length // PAGE_TOKENS)
        return range(max(0, pages - 1), pages)
