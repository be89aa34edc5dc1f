"""gate: columns of one input times the activation of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.activations import GATED, Activation
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Gate", "TracesGate"]


@dataclass(frozen=True)
class Gate(Op):
    """``width`` columns of x, of which it has ``cols``, from ``first`` on."""

    kind: ClassVar[str] = "gate"

    act: Activation
    cols: int
    first: int
    width: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, by = ins
        if by.cols != self.width or not 0 <= self.first <= x.cols - self.width:
            raise ValueError(f"a gate of {by.cols} columns does not fit {x.cols} from {self.first} on")
        return (self.width,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, by = ins
        with np.errstate(all="ignore"):
            return (GATED[self.act](by, x[:, self.first : self.first + self.width]),)


class TracesGate(Tracer):
    def gate(self, x: Value, by: Value, *, act: Activation, first: int = 0) -> Value:
        """``act(by) * x``, of the columns of x from ``first`` on."""
        return self.emit(Gate(act, x.cols, first, by.cols), x, by)[0]
