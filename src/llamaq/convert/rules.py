"""What becomes of a checkpoint's tensors: the words in which the tables of `families` are written.

A rule takes a `Source` and gives the new tensors. In a table, a text alone is the new name of a tensor that stays as
it is, and None drops it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from llamaq.convert.views import NewTensor, View
from llamaq.errors import ModelError

__all__ = [
    "Rule",
    "Source",
    "Table",
    "either_way",
    "gate_and_up",
    "key_and_value",
    "last_rows",
    "plus_one",
    "regrouped",
    "rule_in",
    "same",
    "squeezed",
    "stack",
    "transposed",
    "turned",
]


@dataclass(frozen=True)
class Source:
    """Tensors of one shape that a rule is for: one, or those of all experts in order.

    ``prefix`` and ``kind`` come before and after new names ("blk.3.", ".weight"), in which * stands for the number of
    the ``layer``; ``keys`` are the new file's hyperparameters.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    prefix: str
    kind: str
    keys: Mapping[str, Any]
    layer: int = -1

    def new(self, name: str, *views: View, **rest: Any) -> NewTensor:
        """A tensor under its whole name; one that has the kind in its name already keeps it."""
        kind = "" if name.endswith((".weight", ".bias")) else self.kind
        return NewTensor(f"{self.prefix}{name.replace('*', str(self.layer))}{kind}", views, **rest)

    def number(self, key: str) -> int:
        """The value of a key, of those that each block has its own of the block's."""
        value = self.keys[key]
        return int(value[self.layer] if isinstance(value, list) else value)

    def error(self, expected: str) -> ModelError:
        """A refusal of the tensors' shape."""
        return ModelError(f"tensor {self.names[0]!r}: expected {expected}, got the shape {self.shape}")


Rule = Callable[[Source], list[NewTensor]]
Table = Mapping[str, "str | Rule | None"]


def rule_in(table: Table, name: str) -> tuple[Rule | None, str] | None:
    """What becomes of a tensor, and the end of its name where that is not part of the table's; None where the table
    does not have the name."""
    stem, dot, end = name.rpartition(".")
    for key, kind in ((name, ""), (stem, dot + end)):
        if key in table and kind in ("", ".weight", ".bias"):
            rule = table[key]
            return (same(rule) if isinstance(rule, str) else rule), kind
    return None


def same(name: str, *, shift: float = 0.0) -> Rule:
    """The tensor as it is, under another name; one of three dimensions is a stack, one of four a convolution's
    kernel."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), outer = source.names, source.shape[:-2]
        if len(outer) > 2:
            raise source.error("up to four dimensions")
        if outer:
            views = [View.whole(old, source.shape, *index) for index in np.ndindex(outer)]
            return [source.new(name, *views, stacked=True, outer=outer)]
        return [source.new(name, View.whole(old, source.shape), shift=shift)]

    return rule


def last_rows(name: str, count: str) -> Rule:
    """The last rows of a table, as many as the key ``count`` says."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), rows = source.names, source.keys[count]
        if len(source.shape) != 2 or source.shape[0] < rows:
            raise source.error(f"a table of at least {rows} rows ({count})")
        return [source.new(name, View(old, range(source.shape[0] - rows, source.shape[0]), range(source.shape[1])))]

    return rule


def plus_one(name: str) -> Rule:
    """A norm whose weights the model adds 1 to; in GGUF they have it already."""
    return same(name, shift=1.0)


def turned(name: str, heads: str) -> Rule:
    """Rows that RoPE turns: transformers' pairs (i, i + dims / 2) become neighbours. ``heads`` is the key of their
    number."""

    def rule(source: Source) -> list[NewTensor]:
        (old,) = source.names
        count = source.number(heads)
        if len(source.shape) > 2 or not count or source.shape[0] % (2 * count):
            raise source.error(f"rows for {count} heads ({heads}), an even number for each")
        return [source.new(name, View.whole(old, source.shape), heads=count)]

    return rule


def stack(name: str) -> Rule:
    """One matrix of each expert, stacked."""

    def rule(source: Source) -> list[NewTensor]:
        count = source.keys.get("expert_count", 0)
        if len(source.shape) > 2 or len(source.names) != count:
            raise ModelError(
                f"tensor {source.names[0]!r}: expected one matrix for each of the {count} experts of config.json, "
                f"got {len(source.names)} of the shape {source.shape}"
            )
        return [source.new(name, *(View.whole(old, source.shape) for old in source.names), stacked=True)]

    return rule


def transposed(name: str) -> Rule:
    """A stack whose matrices are the other way around."""

    def rule(source: Source) -> list[NewTensor]:
        (old,) = source.names
        if len(source.shape) != 3:
            raise source.error("three dimensions")
        count, rows, cols = source.shape
        views = (View(old, range(rows), range(cols), (i,), transposed=True) for i in range(count))
        return [source.new(name, *views, stacked=True)]

    return rule


def gate_and_up(gate: str, up: str, *, sideways: bool = False, alternating: bool = False) -> Rule:
    """Gate and up in one tensor, taken apart: one after the other, or ``alternating``.

    They are rows of a matrix or a stack; ``sideways``: columns of a stack (then a matrix is a stack of vectors).
    """

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        at = len(shape) - 1 if sideways or len(shape) == 1 else len(shape) - 2
        count = shape[at]
        if count % 2 or len(shape) > 3:
            raise source.error("gate and up of one length")
        parts = (
            (range(0, count, 2), range(1, count, 2)) if alternating else (range(count // 2), range(count // 2, count))
        )
        made = []
        for name, part in zip((gate, up), parts, strict=True):
            stacked = len(shape) == 3 or (sideways and len(shape) == 2)
            views = []
            for index in [(i,) for i in range(shape[0])] if stacked else [()]:
                if sideways and len(shape) == 3:
                    views.append(View(old, range(shape[1]), part, index, transposed=True))
                else:
                    views.append(View(old, part, None if sideways else range(shape[-1]), index))
            made.append(source.new(name, *views, stacked=stacked))
        return made

    return rule


def either_way(rule: Rule, turned_rule: Rule, columns: str) -> Rule:
    """``rule`` for a stack whose rows are as long as the key ``columns`` says, the other for one whose columns are."""

    def chosen(source: Source) -> list[NewTensor]:
        if len(source.shape) != 3 or source.shape[1:].count(source.keys[columns]) != 1:
            raise source.error(f"a stack with {source.keys[columns]} rows or columns ({columns}), not both")
        return (turned_rule if source.shape[1] == source.keys[columns] else rule)(source)

    return chosen


def key_and_value(key: str, value: str) -> Rule:
    """What widens the compressed keys and values of latent attention: the key's matrix of each head, the other way
    around, and the value's."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), keys = source.names, source.keys
        heads, rope = keys["attention.head_count"], keys["rope.dimension_count"]
        nope, length = keys["attention.key_length_mla"] - rope, keys["attention.value_length_mla"]
        if len(source.shape) != 2 or source.shape[0] != heads * (nope + length):
            raise source.error(f"{heads} heads of {nope} + {length} rows (qk_nope_head_dim, v_head_dim)")
        starts = [i * (nope + length) for i in range(heads)]
        cols = range(source.shape[1])
        turned_keys = (View(old, range(at, at + nope), cols, transposed=True) for at in starts)
        values = (View(old, range(at + nope, at + nope + length), cols) for at in starts)
        return [source.new(key, *turned_keys, stacked=True), source.new(value, *values, stacked=True)]

    return rule


def squeezed(name: str, order: Callable[[Mapping[str, Any]], list[range]] | None = None) -> Rule:
    """The filters of a convolution over time, (channels, 1, taps), as a matrix; ``order`` gives the order of channels
    by the keys of the file."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        if len(shape) != 3 or shape[1] != 1:
            raise source.error("one filter for each channel")
        spans = [range(shape[0])] if order is None else order(source.keys)
        views = (View(old, range(shape[2]), None, (i, 0)) for span in spans for i in span)
        return [source.new(name, *views, stacked=True)]

    return rule


def regrouped(
    name: str, order: Callable[[Mapping[str, Any]], list[range]], *, columns: bool = False, **changes: Any
) -> Rule:
    """Rows or ``columns`` in another order, which ``order`` gives by the keys of the file."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        spans, width = order(source.keys), shape[-1] if columns else shape[0]
        if len(shape) > 2 or sum(map(len, spans)) != width:
            raise source.error(f"{sum(map(len, spans))} {'columns' if columns else 'rows'}")
        if columns:
            return [source.new(name, View.whole(old, shape), columns=tuple(spans), **changes)]
        cols = range(shape[1]) if len(shape) == 2 else None
        return [source.new(name, *(View(old, span, cols) for span in spans), joined=True, **changes)]

    return rule
