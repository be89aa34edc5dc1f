"""add_given: to rows that the step gives some of their columns are added; those of tokens stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["AddGiven", "TracesAddGiven"]


@dataclass(frozen=True)
class AddGiven(Op):
    kind: ClassVar[str] = "add_given"

    begin: int
    cols: int
    width: int
    """Columns of the rows that the step has."""

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if ins[0].selected or not 0 <= self.begin <= self.width - self.cols:
            raise ValueError(f"rows of {self.width} floats have no {self.cols} from {self.begin} on, or are selected")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        x = ins[0].copy()
        if step.given is not None and len(step.given):
            if step.given.shape[1] != self.width:
                raise ValueError(f"step: rows given need {self.width} columns, got {step.given.shape[1]}")
            here = step.tokens < 0
            with np.errstate(all="ignore"):
                x[here] += step.given[-1 - step.tokens[here], self.begin : self.begin + self.cols]
        return (x,)


class TracesAddGiven(Tracer):
    def add_given(self, x: Value, *, begin: int, width: int) -> Value:
        """x, and for rows that the step gives, of ``width`` floats each, their columns from ``begin`` on."""
        return self.emit(AddGiven(begin, x.cols, width), x)[0]
