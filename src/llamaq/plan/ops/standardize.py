"""standardize: each row times a number, less a vector, times another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Standardize", "TracesStandardize"]


@dataclass(frozen=True)
class Standardize(Op):
    kind: ClassVar[str] = "standardize"

    scale: float
    less: Weight
    factor: Weight
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        for vector in (self.less, self.factor):
            shapes.check_vector(vector, self.cols)
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        with np.errstate(all="ignore"):
            return ((ins[0] * np.float32(self.scale) - run.vector(self.less)) * run.vector(self.factor),)


class TracesStandardize(Tracer):
    def standardize(self, x: Value, *, scale: float, less: str, factor: str) -> Value:
        """``(x * scale - less) * factor``, where the last two name vectors."""
        of_less, of_factor = (self.shapes.weight(name, "vector") for name in (less, factor))
        return self.emit(Standardize(float(scale), of_less, of_factor, x.cols), x)[0]
