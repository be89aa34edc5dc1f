"""concat: the columns of each input, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Concat", "TracesConcat"]


@dataclass(frozen=True)
class Concat(Op):
    kind: ClassVar[str] = "concat"

    cols: tuple[int, ...]

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        return (sum(self.cols),)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        return (np.concatenate(ins, axis=-1),)


class TracesConcat(Tracer):
    def concat(self, *values: Value) -> Value:
        """The columns of each, one behind the other."""
        return self.emit(Concat(tuple(value.cols for value in values)), *values)[0]
