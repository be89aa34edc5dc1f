"""given: rows of floats that the step has in the place of tokens."""

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

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        if step.given is None or (step.tokens >= 0).any() or step.given.shape[1] != self.cols:
            raise ValueError(f"step: expected rows of {self.cols} floats in the place of all tokens")
        return (step.given[-1 - step.tokens],)


class TracesGiven(Tracer):
    def given(self, cols: int) -> Value:
        """Rows of floats, so many in each, that the step has in the place of tokens."""
        return self.emit(Given(cols))[0]
