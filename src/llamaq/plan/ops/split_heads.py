"""split_heads: the first half of each head's columns, and the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["SplitHeads", "TracesSplitHeads"]


@dataclass(frozen=True)
class SplitHeads(Op):
    kind: ClassVar[str] = "split_heads"

    heads: int
    head_dim: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        (x,) = ins
        cols = 2 * self.heads * self.head_dim
        if x.cols != cols:
            raise ModelError(f"tensor {x.source!r}: expected {cols} rows (two for each of a head's), got {x.cols}")
        return cols // 2, cols // 2

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        halves = ins[0].reshape(len(ins[0]), self.heads, 2, self.head_dim)
        return tuple(np.ascontiguousarray(halves[:, :, i]).reshape(len(halves), -1) for i in range(2))


class TracesSplitHeads(Tracer):
    def split_heads(self, x: Value, *, heads: int, head_dim: int) -> tuple[Value, Value]:
        """The first ``head_dim`` columns of each head of x, and those behind them."""
        first, second = self.emit(SplitHeads(heads, head_dim), x)
        return first, second
