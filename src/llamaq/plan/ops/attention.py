"""attention: causal attention of each row over its sequence's cache, to which the rows' keys and values go first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import exp32, fma32, fma_dot, lane_sum, rotate, rotation_table
from llamaq.plan.op import F32, CacheLayer, Lowering, Op, Run, Value
from llamaq.plan.rope import Rope
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["SPAN", "Attention", "TracesAttention", "attend", "first_seen"]

SPAN = 256  # tokens of the cache that attention sums before it merges


@dataclass(frozen=True)
class Attention(Op):
    kind: ClassVar[str] = "attention"

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None
    window: int
    chunk: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        for value, count in zip(ins, (self.heads, self.kv_heads, self.kv_heads), strict=True):
            if value.cols != count * self.head_dim:
                raise ModelError(
                    f"tensor {value.source!r}: expected {count * self.head_dim} rows "
                    f"({count} heads of {self.head_dim}), got {value.cols}"
                )
        if self.heads % self.kv_heads or (self.rope is not None and self.rope.dims > self.head_dim):
            raise ValueError("heads must be a multiple of kv_heads, and rope must not exceed head_dim")
        if self.window < 0 or self.chunk < 0:
            raise ValueError(f"window ({self.window}) and chunk ({self.chunk}) count tokens; 0 sets no limit")
        if ins[0].selected:
            raise ValueError("attention comes before select_rows and once for each layer")
        return (ins[0].cols,)

    @property
    def keeps(self) -> CacheLayer:
        return CacheLayer(self.layer, self.kv_heads, self.head_dim, self.window, self.chunk)

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        cache, layer = lowering.cache(self.layer)
        return {**super().attributes(lowering), "cache": cache, "layer": layer}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        q, k, v = (x.reshape(len(x), -1, self.head_dim) for x in ins)
        if self.rope is not None:
            cos, sin = rotation_table(step.positions, self.rope.frequencies, self.rope.attention_factor)
            q, k = (rotate(x, cos, sin, interleaved=self.rope.layout == "norm") for x in (q, k))
        out = np.empty_like(q)
        for sequence in np.unique(step.sequences).tolist():
            rows = np.nonzero(step.sequences == sequence)[0]
            positions = step.positions[rows]
            keys, values = run.remember(self.layer, sequence, int(positions[0]), k[rows], v[rows])
            out[rows] = attend(q[rows], keys, values, positions, self.scale, window=self.window, chunk=self.chunk)
        return (out.reshape(len(out), -1),)


class TracesAttention(Tracer):
    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        *,
        layer: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        rope: Rope | None,
        window: int = 0,
        chunk: int = 0,
    ) -> Value:
        """Causal attention of each row over its sequence's cache, to which the rows' k and v go first.

        A row sees the last ``window`` tokens, itself included, of its own ``chunk`` of positions (0: all).
        """
        op = Attention(layer, heads, kv_heads, head_dim, float(scale), rope, window, chunk)
        return self.emit(op, q, k, v)[0]


def first_seen(positions: NDArray[np.int32], window: int, chunk: int) -> NDArray[np.int32]:
    """The first token that each row sees: of the last ``window`` ones, of its own ``chunk`` of positions (0: all)."""
    in_window = np.maximum(positions - (window - 1), 0) if window else np.zeros_like(positions)
    return np.maximum(in_window, positions - positions % chunk) if chunk else in_window


def attend(
    q: F32, keys: F32, values: F32, positions: NDArray[np.int32], scale: float, *, window: int = 0, chunk: int = 0
) -> F32:
    """Attention of rows (rows, heads, dim) over cached (tokens, kv_heads, dim), row r up to token positions[r]."""
    group = q.shape[1] // keys.shape[1]
    rows = q.transpose(1, 0, 2)
    k, v = (np.repeat(x.transpose(1, 0, 2), group, axis=0) for x in (keys, values))
    first = first_seen(positions, window, chunk)
    peak, norm, out = np.empty(rows.shape[:2], np.float32), np.empty(rows.shape[:2], np.float32), np.empty_like(rows)
    for start in range(0, int(positions.max()) + 1, SPAN):
        span = slice(start, start + SPAN)
        here = np.nonzero((positions >= start) & (first < start + SPAN))[0]
        if not len(here):
            continue
        seen = np.arange(start, min(start + SPAN, k.shape[1]))
        seen = (seen >= first[here, None]) & (seen <= positions[here, None])
        peak_b, norm_b, out_b = _span(rows[:, here], k[:, span], v[:, span], seen, scale)
        new = first[here] >= start  # their first span; the others merge
        fresh, old = here[new], here[~new]
        peak[:, fresh], norm[:, fresh], out[:, fresh] = peak_b[:, new], norm_b[:, new], out_b[:, new]
        with np.errstate(all="ignore"):
            top = np.maximum(peak[:, old], peak_b[:, ~new])
            x, y = exp32(peak[:, old] - top), exp32(peak_b[:, ~new] - top)
            norm[:, old] = fma32(norm_b[:, ~new], y, norm[:, old] * x)
            out[:, old] = fma32(out_b[:, ~new], y[..., None], out[:, old] * x[..., None])
            peak[:, old] = top
    with np.errstate(all="ignore"):
        return np.asarray((out / norm[..., None]).transpose(1, 0, 2))


def _span(q: F32, keys: F32, values: F32, seen: NDArray[np.bool_], scale: float) -> tuple[F32, F32, F32]:
    """Unnormalized softmax over the ``seen`` (rows, tokens) of a span: maxima and sums (heads, rows), outputs."""
    with np.errstate(all="ignore"):
        scores = np.where(seen, fma_dot(keys, q) * np.float32(scale), np.float32(-np.inf))
        peak = scores.max(-1)  # NaN if any is
        weights = np.where(seen, exp32(scores - peak[..., None]), np.float32(0))
    return peak, lane_sum(weights), fma_dot(values.transpose(0, 2, 1), weights, seen)
