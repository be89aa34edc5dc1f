"""embed: the row of a table for each token, times a scale; plus the first row of a table of types, and the row of a
table of positions, where there are such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run, Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Embed", "TracesEmbed"]


@dataclass(frozen=True)
class Embed(Op):
    kind: ClassVar[str] = "embed"

    table: Weight
    scale: float
    types: Weight | None = None
    positions: Weight | None = None

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        cols = shapes.matrix(self.table)[1]
        for more in (self.types, self.positions):
            if more is not None and (found := shapes.matrix(more)[1]) != cols:
                raise ModelError(f"tensor {more.name!r}: expected {cols} columns as {self.table.name!r}, got {found}")
        return (cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        x = run.lookup(self.table, step.tokens)
        with np.errstate(all="ignore"):
            if self.scale != 1.0:
                x = x * np.float32(self.scale)
            if self.types is not None:
                x = x + run.lookup(self.types, np.zeros_like(step.tokens))
            if self.positions is not None:
                x = x + run.lookup(self.positions, step.positions)
        return (x,)


class TracesEmbed(Tracer):
    def embed(
        self, weight: str, scale: float = 1.0, *, types: str | None = None, positions: str | None = None
    ) -> Value:
        """Row of ``weight`` for each token, times ``scale``; plus row 0 of ``types``, plus the row of ``positions`` for
        its position, which must have one."""
        more = (None if name is None else self.shapes.weight(name, "table") for name in (types, positions))
        return self.emit(Embed(self.shapes.weight(weight, "table"), float(scale), *more))[0]
