"""choose: the rows of one input where the step marks them, elsewhere those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Choose", "TracesChoose"]


@dataclass(frozen=True)
class Choose(Op):
    kind: ClassVar[str] = "choose"

    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        marked, others = ins
        if marked.selected or others.selected:
            raise ValueError("choose comes before select_rows")
        if marked.cols != others.cols:
            raise ModelError(f"{marked.source}: expected {others.cols} columns as {others.source}, got {marked.cols}")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        marked = run.step.marked
        return (ins[1] if marked is None else np.where(marked[:, None], *ins),)


class TracesChoose(Tracer):
    def choose(self, marked: Value, others: Value) -> Value:
        """The rows of ``marked`` that the step marks, and of ``others`` those that it does not."""
        return self.emit(Choose(others.cols), marked, others)[0]
