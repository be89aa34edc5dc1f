"""What the schemes share: merging symbols by rank, remembering words, cutting a text where no token spans."""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Generic, TypeVar

__all__ = ["SPACE", "Memo", "merge", "word_pattern"]

SPACE = "▁"  # U+2581 stands for a space in the texts of SentencePiece's tokens
V = TypeVar("V")

_NEVER = sys.maxsize
_LONG = 128  # symbols from which on a heap beats searching a list for its minimum
_LEFT_BITS = 32
_LEFT = (1 << _LEFT_BITS) - 1


def merge(symbols: list[bytes], ranks: Mapping[bytes, int], joiner: bytes) -> list[bytes]:
    """Byte-pair encoding: joins the adjacent pair of lowest rank, the leftmost of equals, while there is one.

    ``ranks`` has the pair (a, b) under ``a + joiner + b``. Changes ``symbols`` and returns the result.
    """
    if len(symbols) > _LONG:
        return _merge_long(symbols, ranks, joiner)
    rank = ranks.get
    pairs = [rank(a + joiner + b, _NEVER) for a, b in pairwise(symbols)]
    while pairs:
        best = min(pairs)
        if best == _NEVER:
            break
        i = pairs.index(best)
        symbols[i] += symbols[i + 1]
        del symbols[i + 1], pairs[i]
        if i:
            pairs[i - 1] = rank(symbols[i - 1] + joiner + symbols[i], _NEVER)
        if i < len(pairs):
            pairs[i] = rank(symbols[i] + joiner + symbols[i + 1], _NEVER)
    return symbols


def _merge_long(symbols: list[bytes], ranks: Mapping[bytes, int], joiner: bytes) -> list[bytes]:
    """The same in O(n log n): a heap of pairs, each one integer, over a linked list of symbols."""
    n, rank = len(symbols), ranks.get
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    pairs = [rank(a + joiner + b, _NEVER) for a, b in pairwise(symbols)] + [_NEVER]  # ranks by left symbol
    heap = [found << _LEFT_BITS | left for left, found in enumerate(pairs) if found != _NEVER]
    heapq.heapify(heap)
    while heap:
        key = heapq.heappop(heap)
        left = key & _LEFT
        if pairs[left] != key >> _LEFT_BITS:
            continue  # this pair has changed since it went on the heap
        right = after[left]
        symbols[left] += symbols[right]
        symbols[right] = b""
        pairs[right] = _NEVER
        end = after[left] = after[right]
        if end < n:
            before[end] = left
        for a, b in ((before[left], left), (left, end)):
            if a >= 0:
                found = pairs[a] = rank(symbols[a] + joiner + symbols[b], _NEVER) if b < n else _NEVER
                if found != _NEVER:
                    heapq.heappush(heap, found << _LEFT_BITS | a)
    return [symbol for symbol in symbols if symbol]


class Memo(Generic[V]):
    """Applies a function to many words, once to each different one, and remembers a bounded number of them."""

    _WORDS = 1 << 16
    _LONGEST = 64  # characters: longer words rarely come again

    def __init__(self, function: Callable[[str], V]) -> None:
        self._function = function
        self._known: dict[str, V] = {}

    def map(self, words: Sequence[str]) -> list[V]:
        """The function's value for each word."""
        values: dict[str, V] = {}  # a local dict, so that threads may share the memo
        known = self._known
        for word in set(words):
            value = known.get(word)
            if value is None:
                value = self._function(word)
                if len(known) >= self._WORDS:
                    known = self._known = {}
                if len(word) <= self._LONGEST:
                    known[word] = value
            values[word] = value
        return [values[word] for word in words]


def word_pattern(joints: Iterable[str], *, lines: bool = False) -> re.Pattern[str]:
    """A pattern whose matches cut a text before each `SPACE` that no token can reach across.

    Tokens of such a text can be found word by word, and words come again. ``joints`` are the characters that
    some token has right before a `SPACE`: after these a word goes on. With ``lines``, runs of newlines are
    words of their own.
    """
    inside = "".join(map(re.escape, sorted(set(joints))))
    plain = f"[^{SPACE}\n]+" if lines else f"[^{SPACE}]+"
    goes_on = f"{plain}|(?<=[{inside}]){SPACE}" if inside else plain
    return re.compile(("\n+|" if lines else "") + f"(?s:.)(?:{goes_on})*")
