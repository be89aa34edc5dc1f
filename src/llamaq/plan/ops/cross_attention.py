"""cross_attention: attention of rows to the states of pictures, whose keys and values the step brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.ops.attention import attend_parts
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["CrossAttention", "TracesCrossAttention"]


@dataclass(frozen=True)
class CrossAttention(Op):
    """``layer`` is its number among the layers that pictures have keys and values for."""

    kind: ClassVar[str] = "cross_attention"

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        (q,) = ins
        if self.heads % self.kv_heads or q.selected:
            raise ValueError("heads must be a multiple of kv_heads, and attention comes before select_rows")
        if q.cols != self.heads * self.head_dim:
            raise ModelError(
                f"tensor {q.source!r}: expected {self.heads * self.head_dim} rows ({self.heads} heads of "
                f"{self.head_dim}), got {q.cols}"
            )
        return (q.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        q = ins[0].reshape(len(ins[0]), self.heads, self.head_dim)
        out = np.zeros_like(q)
        seen = np.zeros((len(q), 2), np.int32) if step.seen is None else step.seen
        for begin, end in {(int(row[0]), int(row[1])) for row in seen}:
            rows = np.nonzero((seen[:, 0] == begin) & (seen[:, 1] == end))[0]
            parts = [step.pictures[i].keys_values(self.layer, self.head_dim) for i in range(begin, end)]
            if parts:
                out[rows] = attend_parts(q[rows], parts, self.scale)
        return (out.reshape(len(out), -1),)


class TracesCrossAttention(Tracer):
    def cross_attention(self, q: Value, *, layer: int, heads: int, kv_heads: int, head_dim: int, scale: float) -> Value:
        """Attention of each row to the states of the pictures that it sees, zero where it sees none."""
        return self.emit(CrossAttention(layer, heads, kv_heads, head_dim, float(scale)), q)[0]
