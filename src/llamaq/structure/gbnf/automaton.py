"""The positions of a regular expression and what may follow each. Source: Glushkov 1961."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

from .tree import Alternatives, Chars, Node, Ranges, Repeat, Sequence

__all__ = ["Automaton", "automaton", "overlap"]

_COPIES = 8  # a part that may repeat more often counts as a loop, which matches more


@dataclass(frozen=True)
class Automaton:
    """``chars[i]`` may stand at position i; a match goes from one of ``first`` along ``follow`` to one of ``last``."""

    chars: list[Ranges]
    follow: list[set[int]]
    first: set[int]
    last: set[int]
    nullable: bool


def automaton(node: Node, spend: Callable[[int], None]) -> Automaton:
    """The automaton of a regular node; it may match more than the node does, never less. ``spend`` is told the steps
    before they are made."""
    builder = _Builder(spend)
    first, last, nullable = builder.add(node)
    return Automaton(builder.chars, builder.follow, first, last, nullable)


def overlap(a: Ranges, b: Ranges) -> bool:
    """Whether two sets of characters share one."""
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] < b[j][0]:
            i += 1
        elif b[j][1] < a[i][0]:
            j += 1
        else:
            return True
    return False


_Part = tuple[set[int], set[int], bool]  # first, last, nullable


class _Builder:
    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self.chars: list[Ranges] = []
        self.follow: list[set[int]] = []

    def add(self, node: Node) -> _Part:
        self._spend(1)
        if isinstance(node, Chars):
            self.chars.append(node.ranges)
            self.follow.append(set())
            at = len(self.chars) - 1
            return {at}, {at}, False
        if isinstance(node, Sequence):
            empty: _Part = set(), set(), True
            return reduce(self._join, map(self.add, node.items), empty)
        if isinstance(node, Alternatives):
            parts = [self.add(item) for item in node.items]
            return set().union(*(p[0] for p in parts)), set().union(*(p[1] for p in parts)), any(p[2] for p in parts)
        assert isinstance(node, Repeat)
        return self._repeat(node)

    def _join(self, a: _Part, b: _Part) -> _Part:
        self._spend(len(a[1]) * len(b[0]))
        for at in a[1]:
            self.follow[at] |= b[0]
        return a[0] | b[0] if a[2] else a[0], a[1] | b[1] if b[2] else b[1], a[2] and b[2]

    def _repeat(self, node: Repeat) -> _Part:
        if node.high is not None and node.high <= _COPIES:
            part: _Part = set(), set(), True
            for copy in range(node.high):
                first, last, nullable = self.add(node.item)
                part = self._join(part, (first, last, nullable or copy >= node.low))
            return part
        first, last, nullable = self.add(node.item)
        self._spend(len(first) * len(last))
        for at in last:
            self.follow[at] |= first
        return first, last, nullable or node.low == 0
