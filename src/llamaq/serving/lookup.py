"""What may come next in a text, from the text itself: what followed the last words when they came before."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

__all__ = ["Lookup"]

_LEAST = 3
"""Tokens that must be equal."""

_MOST = 32
"""Tokens that are compared; no place is better than one where so many are equal."""

_PLACES = 8
"""Earlier places that are looked at, the latest first."""

_KEY_BITS = 21
"""Of the key of three tokens, for each; ids that share their lowest bits are told apart by the comparison."""


class Lookup:
    """Guesses what follows a text that grows.

    Places where the same three tokens end are chained, as in LZ77: a token costs the same however long the text is.
    A text that is expected, the answer's ``prediction``, may be known before, as if it had followed ``start`` already.
    """

    def __init__(self, start: Sequence[int] = (), prediction: Sequence[int] = ()) -> None:
        self._text = array("i")
        self._ends: dict[int, int] = {}  # key: the place where its three tokens ended last
        self._earlier = array("i")  # place: the one before with its key
        self._key = 0
        self._read = 0
        if prediction:
            self._add([*start[-_MOST:], *prediction, -1])  # no guess goes on past the end

    def guess(self, ids: Sequence[int], count: int) -> tuple[list[int], int]:
        """Up to ``count`` tokens that may follow ``ids``, which go on those of the last call, and how many of the last
        tokens were the same before them; none where there is no such place."""
        self._add(ids[self._read :])
        self._read = len(ids)
        text, end = self._text, len(self._text) - 1
        place, longest = -1, _LEAST - 1
        at = self._earlier[end] if end >= 0 else -1
        for _ in range(_PLACES):
            if at < 0 or longest == _MOST:
                break
            same = self._same(at, end)
            if same > longest:
                place, longest = at, same
            at = self._earlier[at]
        if place < 0:
            return [], 0
        tokens: list[int] = []
        for i in range(place + 1, place + 1 + count):
            token = text[i] if i <= end else tokens[i - end - 1]  # a text that repeats itself goes on repeating
            if token < 0:
                break
            tokens.append(token)
        return tokens, longest

    def _same(self, a: int, b: int) -> int:
        """How many tokens before two places, and at them, are equal."""
        text, most = self._text, min(_MOST, a + 1)
        return next((n for n in range(most) if text[a - n] != text[b - n]), most)

    def _add(self, ids: Sequence[int]) -> None:
        ends, earlier, key, mask = self._ends, self._earlier, self._key, (1 << 3 * _KEY_BITS) - 1
        for at, id in enumerate(ids, len(self._text)):
            key = (key << _KEY_BITS | id & (1 << _KEY_BITS) - 1) & mask
            earlier.append(ends.get(key, -1))
            ends[key] = at
        self._key = key
        self._text.extend(ids)
