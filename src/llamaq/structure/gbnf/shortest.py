"""How long the shortest text is that a node matches. Source: Knuth 1977, A generalization of Dijkstra's algorithm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from .tree import Alternatives, Chars, Node, Reference, Repeat, Sequence, Token, children

__all__ = ["nodes", "shortest"]


def nodes(node: Node) -> Iterator[Node]:
    """A node and all under it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += children(node)


def shortest(rules: dict[str, Node]) -> dict[Node, int]:
    """The fewest characters (or tokens) for each node that some text matches; the others are missing."""
    users: dict[Node, list[Node]] = defaultdict(list)
    wanted: dict[Node, int] = {}  # children that a node still waits for
    reached: list[tuple[int, int, Node]] = []
    numbers = count()  # they decide among equal lengths, since nodes have no order

    def reach(length: int, node: Node) -> None:
        heappush(reached, (length, next(numbers), node))

    for rule in rules.values():
        for node in nodes(rule):
            parts = [rules[node.name]] if isinstance(node, Reference) else list(children(node))
            for part in parts:
                users[part].append(node)
            wanted[node] = 1 if isinstance(node, Alternatives) else len(parts)
            if isinstance(node, Chars | Token):
                reach(1, node)
            elif not parts or (isinstance(node, Repeat) and node.low == 0):
                reach(0, node)
    found: dict[Node, int] = {}
    while reached:
        length, _, node = heappop(reached)
        if node in found:
            continue
        found[node] = length
        for user in users[node]:
            wanted[user] -= 1
            if wanted[user] == 0:
                reach(_length(user, length, found), user)
    return found


def _length(node: Node, last: int, found: dict[Node, int]) -> int:
    """The length of a node whose parts are all known, or of its shortest alternative, which came last."""
    if isinstance(node, Sequence):
        return sum(found[item] for item in node.items)
    return node.low * last if isinstance(node, Repeat) else last
