"""given: rows of floats that the step has in the place of tokens, or their first columns."""

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
    width: int
    """Columns of the rows that the step has."""

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if not 0 < self.cols <= self.width:
            raise ValueError(f"rows of {self.width} floats have no {self.cols} first ones")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        if step.given is None or (step.tokens >= 0).any() or step.given.shape[1] != self.width:
            raise ValueError(f"step: expected rows of {self.width} floats in the place of all tokens")
        return (step.given[-1 - step.tokens, : self.cols],)


class TracesGiven(Tracer):
    def given(self, cols: int, *, width: int | None = None) -> Value:
        """Rows of floats that the step has in the place of tokens: the first ``cols`` of the ``width`` (None: as many)
        in each."""
        return self.emit(Given(cols, cols if width is None else width))[0]
