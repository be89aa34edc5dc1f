"""positions: the row of a table for the position of each row of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Positions", "TracesPositions"]


@dataclass(frozen=True)
class Positions(Op):
    kind: ClassVar[str] = "positions"

    table: Weight

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        return (shapes.matrix(self.table)[1],)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        return (run.lookup(self.table, run.step.positions),)


class TracesPositions(Tracer):
    def positions(self, table: str) -> Value:
        """The row of ``table`` for the position of each row, which must have one."""
        return self.emit(Positions(self.shapes.weight(table, "table")))[0]
