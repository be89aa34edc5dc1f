"""sigmoid_gate: each row times a number of its own, the sigmoid of another input's product with a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.arithmetic import lane_sum, sigmoid
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["SigmoidGate", "TracesSigmoidGate"]


@dataclass(frozen=True)
class SigmoidGate(Op):
    kind: ClassVar[str] = "sigmoid_gate"

    weight: Weight
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        shapes.check_vector(self.weight, ins[1].cols)
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, by = ins
        with np.errstate(all="ignore"):
            return (x * sigmoid(lane_sum(by * run.vector(self.weight)))[:, None],)


class TracesSigmoidGate(Tracer):
    def sigmoid_gate(self, x: Value, by: Value, weight: str) -> Value:
        """``x * sigmoid(by . weight)``, one number for each row."""
        return self.emit(SigmoidGate(self.shapes.weight(weight, "vector"), x.cols), x, by)[0]
