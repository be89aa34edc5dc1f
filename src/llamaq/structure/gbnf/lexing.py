"""Where the lexer of llguidance would read too far.

It takes the longest terminal that it can. That is what the grammar means unless a terminal S may end where another (or
itself) T would go on with a character that may also follow S. Then T is taken apart; single characters end that.
"""

from __future__ import annotations

from collections.abc import Iterable

from .automaton import Automaton, automaton, overlap
from .regular import Parts
from .tree import Alternatives, Chars, Node, Ranges, Reference, Repeat, Sequence, Token, union

__all__ = ["terminals"]

_BUDGET = 300_000  # steps of looking for conflicts, about a second; then every terminal is a character


def terminals(parts: Parts) -> set[Node]:
    """The regular nodes that may be terminals: the largest among which there is no conflict."""
    chosen = set(parts.regular)
    if parts.rules["root"] in chosen:
        return chosen
    search = _Search()
    try:
        while apart := search.conflicts(_Follow(parts.rules, chosen, search).terminals):
            chosen -= apart
    except _TooLong:
        return {node for node in chosen if isinstance(node, Chars)}
    return chosen


class _TooLong(Exception):
    pass


class _Search:
    def __init__(self) -> None:
        self._automata: dict[Node, Automaton] = {}
        self._first: dict[Node, Ranges] = {}
        self._left = _BUDGET

    def spend(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooLong

    def automaton(self, node: Node) -> Automaton:
        if node not in self._automata:
            self._automata[node] = automaton(node, self.spend)
        return self._automata[node]

    def first(self, node: Node) -> Ranges:
        """Characters that a regular node may begin with."""
        if node not in self._first:
            a = self.automaton(node)
            self._first[node] = self.union(a.chars[at] for at in a.first)
        return self._first[node]

    def union(self, sets: Iterable[Ranges]) -> Ranges:
        """Characters that are in one of some sets."""
        ranges = [r for ranges in sets for r in ranges]
        self.spend(len(ranges))
        return union(ranges)

    def conflicts(self, follow: dict[Node, Ranges]) -> set[Node]:
        """Terminals that are to be taken apart."""
        found: set[Node] = set()
        for t in follow:
            if not isinstance(t, Chars) and any(self._reads_over(s, t, after) for s, after in follow.items()):
                found.add(t)
        return found

    def _reads_over(self, s: Node, t: Node, after: Ranges) -> bool:
        """Whether T goes on, with a character of ``after``, where S has ended."""
        a, b = self.automaton(s), self.automaton(t)
        self.spend(1 + len(a.first) * len(b.first))
        waiting = [(i, j) for i in a.first for j in b.first]
        seen = set(waiting)
        while waiting:
            i, j = waiting.pop()
            self.spend(len(a.chars[i]) + len(b.chars[j]))
            if not overlap(a.chars[i], b.chars[j]):
                continue
            if i in a.last and any(overlap(b.chars[k], after) for k in b.follow[j]):
                return True
            self.spend(len(a.follow[i]) * len(b.follow[j]))
            new = {(x, y) for x in a.follow[i] for y in b.follow[j]} - seen
            seen |= new
            waiting += new
        return False


class _Follow:
    """Which characters may come after each terminal. Source: FIRST and FOLLOW of Aho and Ullman."""

    def __init__(self, rules: dict[str, Node], chosen: set[Node], search: _Search) -> None:
        self._rules, self._chosen, self._search, self._all = rules, chosen, search, search.union
        self._first: dict[str, tuple[Ranges, bool]] = dict.fromkeys(rules, ((), False))
        self._after: dict[str, Ranges] = dict.fromkeys(rules, ())
        self.terminals: dict[Node, Ranges] = {}
        while self._grow_first():
            pass
        while self._grow_after():
            pass

    def _grow_first(self) -> bool:
        old = dict(self._first)
        for name, node in self._rules.items():
            self._first[name] = self._first_of(node)
        return old != self._first

    def _grow_after(self) -> bool:
        old = dict(self._after)
        for name, node in self._rules.items():
            self._walk(node, self._after[name])
        return old != self._after

    def _first_of(self, node: Node) -> tuple[Ranges, bool]:
        """Characters that it may begin with, and whether it may be empty. A token begins with no character."""
        self._search.spend()
        if isinstance(node, Reference):
            return self._first[node.name]
        if isinstance(node, Token):
            return (), False
        if node in self._chosen:
            return self._search.first(node), self._search.automaton(node).nullable
        if isinstance(node, Repeat):
            first, nullable = self._first_of(node.item)
            return first, nullable or node.low == 0
        assert isinstance(node, Sequence | Alternatives)
        firsts = [self._first_of(item) for item in node.items]
        if isinstance(node, Alternatives):
            return self._all(ranges for ranges, _ in firsts), any(nullable for _, nullable in firsts)
        return self._first_of_all(firsts)

    def _first_of_all(self, firsts: list[tuple[Ranges, bool]]) -> tuple[Ranges, bool]:
        begin: Ranges = ()
        for ranges, nullable in firsts:
            begin = self._all((begin, ranges))
            if not nullable:
                return begin, False
        return begin, True

    def _walk(self, node: Node, after: Ranges) -> None:
        self._search.spend()
        if isinstance(node, Reference):
            self._after[node.name] = self._all((self._after[node.name], after))
        elif node in self._chosen:
            self.terminals[node] = self._all((self.terminals.get(node, ()), after))
        elif isinstance(node, Repeat):
            again = () if node.high == 1 else self._first_of(node.item)[0]
            self._walk(node.item, self._all((after, again)))
        elif isinstance(node, Alternatives):
            for item in node.items:
                self._walk(item, after)
        elif isinstance(node, Sequence):
            for item in reversed(node.items):
                self._walk(item, after)
                first, nullable = self._first_of(item)
                after = self._all((first, after)) if nullable else first
