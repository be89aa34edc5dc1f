"""bidirectional_attention: the rows of a sequence in a step, or of a time in it, see each other, as encoders want it;
nothing is cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import rotate
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value
from llamaq.plan.ops.attention import attend, turns
from llamaq.plan.rope import Rope
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["BidirectionalAttention", "TracesBidirectionalAttention"]


@dataclass(frozen=True)
class BidirectionalAttention(Op):
    kind: ClassVar[str] = "bidirectional_attention"
    whole_texts: ClassVar[bool] = True

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None
    by_time: bool = False
    """Whether rows see those of their own time alone (``Step.places``), which stand together."""

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        for value, count in zip(ins, (self.heads, self.kv_heads, self.kv_heads), strict=True):
            if value.cols != count * self.head_dim:
                raise ModelError(
                    f"tensor {value.source!r}: expected {count * self.head_dim} rows "
                    f"({count} heads of {self.head_dim}), got {value.cols}"
                )
        if self.heads % self.kv_heads or (self.rope is not None and self.rope.dims > self.head_dim):
            raise ValueError("heads must be a multiple of kv_heads, and rope must not exceed head_dim")
        if ins[0].selected:
            raise ValueError("attention comes before select_rows")
        return (ins[0].cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        begins = np.diff(step.sequences, prepend=-1) != 0
        if (step.positions[begins] != 0).any() or (np.diff(step.positions)[~begins[1:]] != 1).any():
            raise ValueError("step: an encoder reads whole texts, each from position 0 on")
        q, k, v = (x.reshape(len(x), -1, self.head_dim) for x in ins)
        if self.rope is not None:
            cos, sin = turns(step, self.rope)
            q, k = (rotate(x, cos, sin, interleaved=self.rope.layout == "norm") for x in (q, k))
        out = np.empty_like(q)
        if self.by_time and step.places is not None:
            begins |= np.diff(step.places[:, 0], prepend=-1) != 0
        for text in np.split(np.arange(len(q)), np.nonzero(begins)[0][1:]):
            last = np.full(len(text), len(text) - 1, np.int32)
            if step.seen is not None:
                last = step.seen[text, 1] - 1
                if step.seen[text, 0].any() or last.min() < 0 or last.max() >= len(text):
                    raise ValueError("step: rows see the first rows of their text, one at least")
            out[text] = attend(q[text], k[text], v[text], last, self.scale)
        return (out.reshape(len(out), -1),)


class TracesBidirectionalAttention(Tracer):
    def bidirectional_attention(
        self, q: Value, k: Value, v: Value, *, heads: int, kv_heads: int, head_dim: int, scale: float,
        rope: Rope | None, by_time: bool = False,
    ) -> Value:  # fmt: skip
        """Attention of each row to all rows of its sequence, or to the first ones, where the step says what it sees. A
        step holds whole texts: the rows of a sequence stand together and begin at position 0; with ``by_time`` so do
        those of a time, which see none of another."""
        op = BidirectionalAttention(heads, kv_heads, head_dim, float(scale), rope, by_time)
        return self.emit(op, q, k, v)[0]
