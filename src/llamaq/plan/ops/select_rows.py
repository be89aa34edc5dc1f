"""select_rows: from here on only the rows whose logits are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["SelectRows", "TracesSelectRows"]


@dataclass(frozen=True)
class SelectRows(Op):
    kind: ClassVar[str] = "select_rows"
    selects: ClassVar[bool] = True

    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        return (ins[0][run.step.wanted],)


class TracesSelectRows(Tracer):
    def select_rows(self, x: Value) -> Value:
        """Only the rows whose logits are wanted go on."""
        return self.emit(SelectRows(x.cols), x)[0]
