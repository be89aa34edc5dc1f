"""attention: causal attention of each row over its sequence's cache, to which the rows' keys and values go first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import (
    exp32,
    fma32,
    fma_dot,
    lane_sum,
    layer_norm,
    log64,
    rms_norm,
    rotate,
    rotation_table,
    tanh32,
)
from llamaq.plan.op import F32, Lowering, Op, Run
from llamaq.plan.operands import CacheLayer, HeadNorm, Temperature, Value, Weight
from llamaq.plan.rope import Rope
from llamaq.plan.shapes import Shapes
from llamaq.plan.step import Step
from llamaq.plan.tracer import Tracer

__all__ = ["SPAN", "Attention", "TracesAttention", "attend", "attend_parts", "first_seen", "turns"]

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
    value_dim: int
    value_of_key: bool = False
    rope_offset: int = 0
    q_norm: HeadNorm | None = None
    k_norm: HeadNorm | None = None
    temperature: Temperature | None = None
    softcap: float = 0.0
    sinks: Weight | None = None
    v_norm: HeadNorm | None = None
    shared: bool = False
    """Whether the cache is another op's, of the same layer number, which has filled it."""
    ahead: bool = True
    """Whether rows see later ones where the step says so (``Step.last_seen``)."""

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        wanted = [(self.heads, self.head_dim), (self.kv_heads, self.head_dim), (self.kv_heads, self.value_dim)]
        for value, (count, dim) in zip(ins, wanted[: 1 if self.shared else 3 - self.value_of_key], strict=True):
            if value.cols != count * dim:
                raise ModelError(
                    f"tensor {value.source!r}: expected {count * dim} rows ({count} heads of {dim}), got {value.cols}"
                )
        if self.heads % self.kv_heads or ins[0].selected:
            raise ValueError("heads must be a multiple of kv_heads, and attention comes before select_rows")
        if self.rope is not None and not 0 <= self.rope_offset <= self.head_dim - self.rope.dims:
            raise ValueError(f"rope ({self.rope.dims} from {self.rope_offset} on) must not exceed head_dim")
        if self.value_of_key and self.value_dim > self.head_dim:
            raise ValueError(f"a value of {self.value_dim} numbers is no part of a key of {self.head_dim}")
        if self.window < 0 or self.chunk < 0:
            raise ValueError(f"window ({self.window}) and chunk ({self.chunk}) count tokens; 0 sets no limit")
        if not 0 <= self.softcap < math.inf:
            raise ValueError(f"softcap must be a number from 0 (none), got {self.softcap}")
        if (t := self.temperature) is not None and (t.length < 1 or t.offset < 0):
            raise ValueError(f"temperature: length ({t.length}) and offset ({t.offset}) count tokens")
        for norm, heads, dim in (
            (self.q_norm, self.heads, self.head_dim),
            (self.k_norm, self.kv_heads, self.head_dim),
            (self.v_norm, self.kv_heads, self.value_dim),
        ):
            if norm is not None and norm.weight is not None and not shapes.has_shape(norm.weight, heads, dim):
                shapes.check_vector(Weight(norm.weight, "vector"), dim)
        if self.sinks is not None:
            shapes.check_vector(self.sinks, self.heads)
        return (self.heads * self.value_dim,)

    @property
    def keeps(self) -> CacheLayer | None:
        if self.shared:
            return None
        stored = 0 if self.value_of_key else self.value_dim
        return CacheLayer(self.layer, self.kv_heads, self.head_dim, stored, self.window, self.chunk)

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        cache, layer = lowering.cache(self.layer)
        return {**super().attributes(lowering), "cache": cache, "layer": layer}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        step = run.step
        q = self._turned(run, ins[0].reshape(len(ins[0]), -1, self.head_dim), self.q_norm)
        if self.temperature is not None:
            with np.errstate(all="ignore"):
                q = q * temperature_factors(self.temperature, step.positions)[:, None, None]
        k, v = self._keys_and_values(run, *ins[1:])
        sinks = None if self.sinks is None else run.vector(self.sinks)
        out = np.empty((*q.shape[:2], self.value_dim), np.float32)
        for sequence in np.unique(step.sequences).tolist():
            rows = np.nonzero(step.sequences == sequence)[0]
            positions = step.positions[rows]
            if self.shared:
                keys, values = run.recall(self.layer, sequence)
            else:
                keys, values = run.remember(self.layer, sequence, int(positions[0]), k[rows], v[rows])
            if self.value_of_key:
                values = keys[..., : self.value_dim]
            out[rows] = attend(
                q[rows], keys, values, positions, self.scale,
                last=None if step.last_seen is None or not self.ahead else step.last_seen[rows],
                window=self.window, chunk=self.chunk, softcap=self.softcap, sinks=sinks,
            )  # fmt: skip
        return (out.reshape(len(out), -1),)

    def _keys_and_values(self, run: Run, *ins: F32) -> tuple[F32, F32]:
        """What goes into the cache: (rows, KV heads, numbers). Values that are parts of keys are none of it, and
        where the cache is another op's, nothing is."""
        if self.shared:
            nothing = np.empty((len(run.step.tokens), self.kv_heads, 0), np.float32)
            return nothing, nothing
        k = self._turned(run, ins[0].reshape(len(ins[0]), -1, self.head_dim), self.k_norm)
        if self.value_of_key:
            return k, k[..., :0]
        v = ins[1].reshape(len(k), -1, self.value_dim)
        return k, v if self.v_norm is None else head_norm(run, v, self.v_norm)

    def _turned(self, run: Run, x: F32, norm: HeadNorm | None) -> F32:
        """Queries or keys (rows, heads, head_dim) with their norm and rope."""
        if norm is not None and not norm.after_rope:
            x = head_norm(run, x, norm)
        if self.rope is not None:
            cos, sin = turns(run.step, self.rope)
            turned = rotate(x[..., self.rope_offset :], cos, sin, interleaved=self.rope.layout == "norm")
            x = np.concatenate([x[..., : self.rope_offset], turned], axis=-1)
        return head_norm(run, x, norm) if norm is not None and norm.after_rope else x


class TracesAttention(Tracer):
    def attention(
        self,
        q: Value,
        k: Value | None,
        v: Value | None,
        *,
        layer: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        scale: float,
        rope: Rope | None,
        window: int = 0,
        chunk: int = 0,
        q_norm: HeadNorm | None = None,
        k_norm: HeadNorm | None = None,
        softcap: float = 0.0,
        sinks: str | None = None,
        temperature: Temperature | None = None,
        value_dim: int | None = None,
        rope_offset: int = 0,
        v_norm: HeadNorm | None = None,
        ahead: bool = True,
    ) -> Value:
        """Causal attention of each row over its sequence's cache, to which the rows' k and v go first.

        A row sees the last ``window`` tokens, itself included, of its own ``chunk`` of positions (0: all). ``rope``
        turns the dimensions of each head from ``rope_offset`` on. A scaled score s becomes ``softcap * tanh(s /
        softcap)``; ``sinks`` names a vector of one score for each head that counts in the sum of exponentials only.
        Values have ``value_dim`` numbers (None: ``head_dim``); without ``v`` they are the first ones of the keys.
        Without ``k``, too, the cache of ``layer`` is read as the op that owns it left it. Rows see later ones where
        the step says so, unless they do not look ``ahead``.
        """
        op = Attention(
            layer, heads, kv_heads, head_dim, float(scale), rope, window, chunk,
            value_dim=head_dim if value_dim is None else value_dim,
            value_of_key=v is None and k is not None,
            rope_offset=rope_offset,
            q_norm=_with_full_name(q_norm),
            k_norm=_with_full_name(k_norm),
            temperature=temperature,
            softcap=float(softcap),
            sinks=None if sinks is None else self.shapes.weight(sinks, "vector"),
            v_norm=_with_full_name(v_norm),
            shared=k is None,
            ahead=ahead,
        )  # fmt: skip
        return self.emit(op, *(value for value in (q, k, v) if value is not None))[0]


def _with_full_name(norm: HeadNorm | None) -> HeadNorm | None:
    return norm if norm is None or norm.weight is None else replace(norm, weight=f"{norm.weight}.weight")


def head_norm(run: Run, x: F32, norm: HeadNorm) -> F32:
    """The norm of each head of (rows, heads, head_dim)."""
    weight = np.ones(x.shape[-1], np.float32) if norm.weight is None else run.vector(norm.weight)
    return layer_norm(x, weight, None, norm.eps) if norm.kind == "layer" else rms_norm(x, weight, norm.eps)


def turns(step: Step, rope: Rope) -> tuple[F32, F32]:
    """cos and sin for each row and pair: float32 (rows, pairs)."""
    positions = step.positions if step.places is None or not rope.axes else step.places[:, rope.axes]
    return rotation_table(positions, rope.frequencies, rope.attention_factor)


def temperature_factors(temperature: Temperature, positions: NDArray[np.int32]) -> F32:
    """What queries at these positions are multiplied with."""
    passed = (positions.astype(np.int64) + temperature.offset) // temperature.length
    return (1 + float(np.float32(temperature.scale)) * log64(passed + 1)).astype(np.float32)


def first_seen(positions: NDArray[np.int32], window: int, chunk: int) -> NDArray[np.int32]:
    """The first token that each row sees: of the last ``window`` ones, of its own ``chunk`` of positions (0: all)."""
    in_window = np.maximum(positions - (window - 1), 0) if window else np.zeros_like(positions)
    return np.maximum(in_window, positions - positions % chunk) if chunk else in_window


def attend(
    q: F32,
    keys: F32,
    values: F32,
    positions: NDArray[np.int32],
    scale: float,
    *,
    last: NDArray[np.int32] | None = None,
    window: int = 0,
    chunk: int = 0,
    softcap: float = 0.0,
    sinks: F32 | None = None,
) -> F32:
    """Attention of rows (rows, heads, dim) over cached (tokens, kv_heads, dim), row r up to token ``last[r]`` (None:
    its own, ``positions[r]``)."""
    last = positions if last is None else last
    peak, norm, out = _sums(q, keys, values, first_seen(positions, window, chunk), last, scale, softcap)
    with np.errstate(all="ignore"):
        if sinks is not None:
            top = np.maximum(peak, sinks[:, None])
            x = exp32(peak - top)
            norm, out = norm * x + exp32(sinks[:, None] - top), out * x[..., None]
        return np.asarray((out / norm[..., None]).transpose(1, 0, 2))


def attend_parts(q: F32, parts: Sequence[tuple[F32, F32]], scale: float) -> F32:
    """Attention of rows (rows, heads, dim) over all of several keys and values (tokens, kv_heads, dim), each summed by
    itself before they are merged in their order."""
    rows = np.arange(len(q))
    found = None
    for keys, values in parts:
        last = np.full(len(q), len(keys) - 1, np.int32)
        sums = _sums(q, keys, values, np.zeros_like(last), last, scale, 0.0)
        if found is None:
            found = sums
        else:
            _merge(found, rows, sums, rows)
    assert found is not None
    with np.errstate(all="ignore"):
        return np.asarray((found[2] / found[1][..., None]).transpose(1, 0, 2))


_Sums = tuple[F32, F32, F32]
"""Maxima and sums (heads, rows), and outputs before their division (heads, rows, dim)."""


def _sums(
    q: F32, keys: F32, values: F32, first: NDArray[np.int32], last: NDArray[np.int32], scale: float, softcap: float
) -> _Sums:
    group = q.shape[1] // keys.shape[1]
    rows = q.transpose(1, 0, 2)
    k, v = (np.repeat(x.transpose(1, 0, 2), group, axis=0) for x in (keys, values))
    found = (
        np.empty(rows.shape[:2], np.float32),
        np.empty(rows.shape[:2], np.float32),
        np.empty((*rows.shape[:2], v.shape[-1]), np.float32),
    )
    for start in range(0, int(last.max()) + 1, SPAN):
        span = slice(start, start + SPAN)
        here = np.nonzero((last >= start) & (first < start + SPAN))[0]
        if not len(here):
            continue
        seen = np.arange(start, min(start + SPAN, k.shape[1]))
        seen = (seen >= first[here, None]) & (seen <= last[here, None])
        part = _span(rows[:, here], k[:, span], v[:, span], seen, scale, softcap)
        new = first[here] >= start  # their first span; the others merge
        for into, values_of_span in zip(found, part, strict=True):
            into[:, here[new]] = values_of_span[:, new]
        _merge(found, here[~new], part, np.nonzero(~new)[0])
    return found


def _merge(into: _Sums, rows: NDArray[np.int64], part: _Sums, rows_of_part: NDArray[np.int64]) -> None:
    peak, norm, out = into
    peak_b, norm_b, out_b = (x[:, rows_of_part] for x in part)
    with np.errstate(all="ignore"):
        top = np.maximum(peak[:, rows], peak_b)
        x, y = exp32(peak[:, rows] - top), exp32(peak_b - top)
        norm[:, rows] = fma32(norm_b, y, norm[:, rows] * x)
        out[:, rows] = fma32(out_b, y[..., None], out[:, rows] * x[..., None])
        peak[:, rows] = top


def _span(
    q: F32, keys: F32, values: F32, seen: NDArray[np.bool_], scale: float, softcap: float
) -> tuple[F32, F32, F32]:
    """Unnormalized softmax over the ``seen`` (rows, tokens) of a span: maxima and sums (heads, rows), outputs."""
    with np.errstate(all="ignore"):
        scores = fma_dot(keys, q) * np.float32(scale)
        if softcap:
            scores = np.float32(softcap) * tanh32(scores / np.float32(softcap))
        scores = np.where(seen, scores, np.float32(-np.inf))
        peak = scores.max(-1)  # NaN if any is
        weights = np.where(seen, exp32(scores - peak[..., None]), np.float32(0))
    return peak, lane_sum(weights), fma_dot(values.transpose(0, 2, 1), weights, seen)
