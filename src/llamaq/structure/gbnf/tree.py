"""What a grammar consists of, and sets of characters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["ALL", "Alternatives", "Chars", "Node", "Ranges", "Reference", "Repeat", "Sequence", "Token",
           "children", "complement", "references", "union"]  # fmt: skip

Ranges: TypeAlias = "tuple[tuple[int, int], ...]"
"""Code points: ascending, disjoint ranges, ends included."""


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted and merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """All other code points but the surrogates, which no UTF-8 text has."""
    out, low = [], 0
    for begin, end in union([*ranges, (0xD800, 0xDFFF)]):
        if low < begin:
            out.append((low, begin - 1))
        low = end + 1
    return (*out, (low, 0x10FFFF)) if low <= 0x10FFFF else tuple(out)


ALL = complement(())


@dataclass(frozen=True, eq=False)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, eq=False)
class Token:
    """One token of the vocabulary, by id; ``negated``: any but this one."""

    id: int
    negated: bool


@dataclass(frozen=True, eq=False)
class Reference:
    """A rule."""

    name: str


@dataclass(frozen=True, eq=False)
class Sequence:
    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Alternatives:
    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    """``item`` at least ``low`` and at most ``high`` times (None: without end)."""

    item: Node
    low: int
    high: int | None


Node: TypeAlias = "Chars | Token | Reference | Sequence | Alternatives | Repeat"


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right under a node."""
    if isinstance(node, Repeat):
        return (node.item,)
    return node.items if isinstance(node, Sequence | Alternatives) else ()


def references(node: Node) -> list[str]:
    """Names of the rules that a node refers to."""
    if isinstance(node, Reference):
        return [node.name]
    return [name for child in children(node) for name in references(child)]
