"""merge_rows: a row of each wanted one and those behind it, their mean or all side by side; from here on only these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["MergeRows", "Merging", "TracesMergeRows"]

Merging = Literal["mean", "join"]


@dataclass(frozen=True)
class MergeRows(Op):
    kind: ClassVar[str] = "merge_rows"
    selects: ClassVar[bool] = True

    mode: Merging
    count: int
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if self.count < 1 or ins[0].selected:
            raise ValueError(f"merge_rows takes rows that are not selected yet, at least one each, got {self.count}")
        return (self.cols * self.count if self.mode == "join" else self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        first = np.nonzero(run.step.wanted)[0]
        rows = first[:, None] + np.arange(self.count)
        if rows.max(initial=0) >= len(run.step) or (run.step.sequences[rows] != run.step.sequences[first, None]).any():
            raise ValueError(f"step: each wanted row needs {self.count - 1} rows of its sequence behind it")
        x = ins[0][rows]
        if self.mode == "join":
            return (x.reshape(len(rows), -1),)
        total = x[:, 0]
        with np.errstate(all="ignore"):
            for i in range(1, self.count):
                total = total + x[:, i]
            return (total / np.float32(self.count),)


class TracesMergeRows(Tracer):
    def merge_rows(self, x: Value, mode: Merging, count: int) -> Value:
        """A row for each wanted row: of it and those behind it, ``count`` in all, the "mean", or their columns one
        behind the other ("join")."""
        return self.emit(MergeRows(mode, count, x.cols), x)[0]
