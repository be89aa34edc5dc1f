"""What may come next in a text, from others that were read or written before: of one process, or of one API key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.memory import KEPT_OWNERS, KEPT_TOKENS

__all__ = ["KeptTexts", "Texts"]

_LEAST = 3
"""Tokens that must be equal."""

_MOST = 32
"""Tokens that are compared."""

_PLACES = 8
"""Earlier places that are looked at, the latest first."""

_FACTORS = (40503, 2654435761, 2246822519)
"""Odd numbers that spread three tokens over the hashes."""


class Texts:
    """The latest ``tokens`` of texts, in fixed memory. Places where the same three tokens end are chained; once the
    memory is full, the older half goes. Any thread may use it."""

    def __init__(self, tokens: int = KEPT_TOKENS) -> None:
        """``tokens``: a power of two."""
        self._text = np.empty(tokens, np.int32)
        self._earlier = np.empty(tokens, np.int32)  # place: the one before with its hash
        self._last = np.full(tokens, -1, np.int32)  # hash: the place where such tokens ended last
        self._end = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._text.nbytes + self._earlier.nbytes + self._last.nbytes

    def add(self, ids: Sequence[int]) -> None:
        """Adds a text, or of a long one the end."""
        half = len(self._text) // 2
        piece = np.array([-1, *ids[-(half - 1) :]], np.int32)  # no guess goes on past the end of a text
        with self._lock:
            if self._end + len(piece) > len(self._text):
                kept = self._text[self._end - half : self._end].copy()
                self._last.fill(-1)
                self._end = 0
                self._put(kept)
            self._put(piece)

    def guess(self, ids: Sequence[int], count: int) -> tuple[list[int], int]:
        """Up to ``count`` tokens that may follow ``ids``, and how many of the last tokens were the same before them;
        none where there is no such place."""
        latest = [*ids[-_MOST:]][::-1]
        if len(latest) < _LEAST or count <= 0:
            return [], 0
        with self._lock:
            at = int(self._last[self._hash(*latest[2::-1])])
            place, longest = -1, _LEAST - 1
            for _ in range(_PLACES):
                if at < 0 or longest == _MOST:
                    break
                before = self._text[max(0, at - _MOST + 1) : at + 1][::-1].tolist()
                pairs = zip(latest, before, strict=False)
                same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(latest), len(before)))
                if same > longest:
                    place, longest = at, same
                at = int(self._earlier[at])
            if place < 0:
                return [], 0
            found: list[int] = self._text[place + 1 : min(place + 1 + count, self._end)].tolist()
        return (found[: found.index(-1)] if -1 in found else found), longest

    def _put(self, piece: NDArray[np.int32]) -> None:
        start, self._end = self._end, self._end + len(piece)
        self._text[start : self._end] = piece
        first = max(start, _LEAST - 1)
        if first >= self._end:
            return
        text = self._text[first - 2 : self._end].astype(np.int64)
        hashes = self._hash(text[:-2], text[1:-1], text[2:])
        order = np.argsort(hashes, kind="stable")
        hashes, places = hashes[order], (first + order).astype(np.int32)
        new = np.append(True, hashes[1:] != hashes[:-1])  # the first place of each hash
        self._earlier[places] = np.where(new, self._last[hashes], np.roll(places, 1))
        final = np.roll(new, -1)
        self._last[hashes[final]] = places[final]

    def _hash(self, a: Any, b: Any, c: Any) -> Any:
        """Of three tokens, or of arrays of them."""
        x, y, z = _FACTORS
        mixed = a * x + b * y + c * z
        return (mixed ^ mixed >> 15) & len(self._text) - 1


class KeptTexts:
    """The texts of each owner, as far as they asked lately; nobody gets another one's. Any thread may use it."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, Texts] = OrderedDict()
        self._lock = Lock()

    def of(self, owner: str) -> Texts:
        """Those of an owner."""
        with self._lock:
            if owner not in self._owners:
                self._owners[owner] = Texts()
            self._owners.move_to_end(owner)
            while len(self._owners) > KEPT_OWNERS:
                self._owners.popitem(last=False)
            return self._owners[owner]
