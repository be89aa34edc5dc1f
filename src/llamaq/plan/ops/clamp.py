"""clamp: each number, or the nearer of two bounds where it lies outside of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Clamp", "TracesClamp"]


@dataclass(frozen=True)
class Clamp(Op):
    kind: ClassVar[str] = "clamp"

    low: float
    high: float
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"bounds are finite and ascend, got {self.low} and {self.high}")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        low, high = np.float32(self.low), np.float32(self.high)
        return (np.where(ins[0] < low, low, np.where(ins[0] > high, high, ins[0])),)


class TracesClamp(Tracer):
    def clamp(self, x: Value, low: float, high: float) -> Value:
        """x, no less than ``low`` and no more than ``high``; what is no number stays so."""
        return self.emit(Clamp(float(low), float(high), x.cols), x)[0]
