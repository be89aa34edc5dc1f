"""embed: the row of a table for each token, times a scale, or the beginning of a row that the step gives; plus the row
of its type, and that of its position, where there are tables of such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.step import Step
from llamaq.plan.tracer import Tracer

__all__ = ["Embed", "TracesEmbed"]


@dataclass(frozen=True)
class Embed(Op):
    kind: ClassVar[str] = "embed"

    table: Weight
    scale: float
    types: Weight | None = None
    second_after: int | None = None
    """Tokens behind the first of this id in their text are of type 1, all others of type 0."""
    positions: Weight | None = None
    given_cols: int | None = None
    """Columns of rows that the step gives, where they are longer than the table's."""
    given_as: int | None = None
    """The token whose row stands there for rows that the step gives, where these are for another table."""

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        cols = shapes.matrix(self.table)[1]
        for more in (self.types, self.positions):
            if more is not None and (found := shapes.matrix(more)[1]) != cols:
                raise ModelError(f"tensor {more.name!r}: expected {cols} columns as {self.table.name!r}, got {found}")
        if self.given_cols is not None and self.given_cols < cols:
            raise ValueError(f"rows that are given are no shorter than the table's ({cols}), got {self.given_cols}")
        if self.given_as is not None and not 0 <= self.given_as < shapes.matrix(self.table)[0]:
            raise ModelError(f"tensor {self.table.name!r}: expected a row for the token {self.given_as}")
        if self.second_after is not None and (self.types is None or shapes.matrix(self.types)[0] < 2):
            raise ValueError("a second type needs a table of two types")
        return (cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        x = run.lookup(self.table, np.where(step.tokens < 0, self.given_as or 0, step.tokens))
        with np.errstate(all="ignore"):
            if self.scale != 1.0:
                x = x * np.float32(self.scale)
            if step.given is not None and self.given_as is None:
                cols = self.given_cols or x.shape[1]
                if step.given.shape[1] != cols:
                    raise ValueError(f"step: rows given need {cols} columns, got {step.given.shape[1]}")
                x[step.tokens < 0] = step.given[-1 - step.tokens[step.tokens < 0], : x.shape[1]]
            if self.types is not None:
                x = x + run.lookup(self.types, self._types_of(step))
            if self.positions is not None:
                x = x + run.lookup(self.positions, step.positions)
        return (x,)

    def _types_of(self, step: Step) -> NDArray[np.int32]:
        types = np.zeros_like(step.tokens)
        for sequence in () if self.second_after is None else np.unique(step.sequences):
            rows = np.nonzero(step.sequences == sequence)[0]
            marks = np.nonzero(step.tokens[rows] == self.second_after)[0]
            types[rows[marks[0] + 1 :] if len(marks) else rows[:0]] = 1
        return types


class TracesEmbed(Tracer):
    def embed(
        self,
        weight: str,
        scale: float = 1.0,
        *,
        types: str | None = None,
        second_after: int | None = None,
        positions: str | None = None,
        given_cols: int | None = None,
        given_as: int | None = None,
    ) -> Value:
        """Row of ``weight`` for each token, times ``scale``; plus row 0 of ``types`` (row 1 behind the first token
        ``second_after`` of a text), plus the row of ``positions`` for its position, which must have one. Of rows
        that the step gives, of ``given_cols`` columns (None: the table's), the first ones stand there instead, or the
        row of the token ``given_as``."""
        of_types, of_positions = (None if n is None else self.shapes.weight(n, "table") for n in (types, positions))
        table = self.shapes.weight(weight, "table")
        op = Embed(table, float(scale), of_types, second_after, of_positions, given_cols, given_as)
        return self.emit(op)[0]
