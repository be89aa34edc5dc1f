"""embed: the row of a table for each token, times a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.op import F32, Op, Run, Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Embed", "TracesEmbed"]


@dataclass(frozen=True)
class Embed(Op):
    kind: ClassVar[str] = "embed"

    table: Weight
    scale: float

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        return (shapes.matrix(self.table)[1],)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x = run.lookup(self.table, run.step.tokens)
        return (x if self.scale == 1.0 else x * np.float32(self.scale),)


class TracesEmbed(Tracer):
    def embed(self, weight: str, scale: float = 1.0) -> Value:
        """Row of ``weight`` for each token, times ``scale``."""
        return self.emit(Embed(self.shapes.weight(weight, "table"), float(scale)))[0]
