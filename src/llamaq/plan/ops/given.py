"""given: columns of the rows of floats that the step has in the place of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Given", "TracesGiven"]


@dataclass(frozen=True)
class Given(Op):
    kind: ClassVar[str] = "given"

    cols: int
    first: int
    width: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if not 0 <= self.first <= self.width - self.cols:
            raise ValueError(f"rows of {self.width} floats have no {self.cols} columns from {self.first} on")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        if step.given is None or (step.tokens >= 0).any() or step.given.shape[1] != self.width:
            raise ValueError(f"step: expected rows of {self.width} floats in the place of all tokens")
        return (step.given[-1 - step.tokens][:, self.first : self.first + self.cols],)


class TracesGiven(Tracer):
    def given(self, cols: int, *, first: int = 0, width: int | None = None) -> Value:
        """So many columns, from ``first`` on, of the rows of ``width`` floats (None: ``cols``) that the step has in the
        place of tokens."""
        return self.emit(Given(cols, first, cols if width is None else width))[0]
