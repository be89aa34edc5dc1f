"""Run a plan in NumPy, one op at a time, with the bits of docs/numerics.md.

Slow on purpose: this is what the C++ executor must equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.formats import Format, Unpacked, can_unpack, decode, unpack
from llamaq.plan.arithmetic import (
    exp32,
    fma32,
    fma_dot,
    lane_sum,
    quantize_rows,
    rms_norm,
    rotate,
    rotation_table,
    round_to_cache,
    silu,
)
from llamaq.plan.graph import Op, Plan
from llamaq.plan.rope import Rope
from llamaq.plan.step import Step

__all__ = ["SPAN", "Reference", "Trace", "attend", "first_seen", "linear", "quantized_linear"]

F32: TypeAlias = NDArray[np.float32]
Weights: TypeAlias = Mapping[str, "tuple[Format, NDArray[np.uint8]] | F32"]
Trace: TypeAlias = Callable[[int, Op, "tuple[F32, ...]"], None]

SPAN = 256  # tokens of the cache that attention sums before it merges


def linear(weight: Unpacked | F32, x: F32) -> F32:
    """``x @ weight.T``: weight (outputs, k), x (rows, k), result (rows, outputs)."""
    if isinstance(weight, Unpacked):
        return quantized_linear(weight, *quantize_rows(x))
    return fma_dot(weight, x)


def quantized_linear(weight: Unpacked, a: NDArray[np.int32], scale: F32) -> F32:
    """Blocks of 32 in ascending order: exact integer sums, then fma with the scales.

    ``a`` (rows, blocks, 32) and ``scale`` (rows, blocks) are those of ``quantize_rows``.
    """
    halves = a.reshape(*a.shape[:-1], 2, 16).astype(np.float64)
    outputs, blocks = weight.scale.shape
    q = weight.q.reshape(outputs, blocks, 2, 16).astype(np.float64)
    acc = np.zeros((len(a), outputs), np.float32)
    with np.errstate(all="ignore"):
        for b in range(blocks):
            d = scale[:, b, None]
            if weight.minimum is not None:
                sums = halves[:, b].sum(-1)
                if weight.sub_min is None:
                    total = sums.sum(-1, keepdims=True)
                else:
                    total = sums @ weight.sub_min[:, 2 * b : 2 * b + 2].T
                acc = fma32(weight.minimum[:, b], d * total.astype(np.float32), acc)
            # Far below 2^53, or few bits of a scale: these float64 products and sums are exact in any order.
            parts = [halves[:, b, h] @ q[:, b, h].T for h in (0, 1)]
            if weight.sub_scale is not None:
                parts = [part * weight.sub_scale[:, 2 * b + h] for h, part in enumerate(parts)]
            acc = fma32((parts[0] + parts[1]).astype(np.float32), weight.scale[:, b] * d, acc)
    return acc


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


class Reference:
    """Executes a plan: ``forward`` takes a ``Step`` and remembers keys and values of each sequence.

    ``weights`` maps full tensor names to (format, uint8 data of shape (*outer, row_bytes)) or to float32
    arrays. Raises ``ModelError`` for a tensor that is absent or in a format that cannot be decoded.
    """

    def __init__(self, plan: Plan, weights: Weights, *, cache_type: str = "f16") -> None:
        absent = [name for name in plan.weights() if name not in weights]
        if absent:
            raise ModelError(f"expected the data of tensor {absent[0]!r}, got none")
        self._plan = plan
        self._tables = {op.weights[0]: weights[op.weights[0]] for op in plan.ops if op.kind == "embed"}
        matrices = {w for op in plan.ops if op.kind in ("linear", "glu_linear") for w in op.weights}
        self._matrices = {name: _matrix(weights[name]) for name in matrices}
        vectors = set(plan.weights()) - matrices - set(self._tables)
        self._vectors = {name: _decoded(weights[name]) for name in vectors}
        self._cache_type = cache_type
        self._cache: dict[tuple[int, int], tuple[F32, F32]] = {}
        self._lengths: dict[int, int] = {}

    def forward(self, step: Step, trace: Trace | None = None) -> F32:
        """The plan's result for the wanted rows, in their order: float32 (wanted, out_cols).

        ``trace`` is called after each op with its number, the op and its outputs. Raises ``ValueError``
        for an unknown token id and for a position beyond the end of its sequence.
        """
        for sequence in np.unique(step.sequences).tolist():
            start = step.positions[step.sequences == sequence]
            if start[0] > self._lengths.get(sequence, 0):
                known = self._lengths.get(sequence, 0)
                raise ValueError(f"sequence {sequence} has {known} tokens; the step begins at position {start[0]}")
        slots: dict[int, F32] = {}
        run: dict[str, Callable[..., tuple[F32, ...]]] = {
            "embed": self._embed,
            "rms_norm": self._rms_norm,
            "linear": self._linear,
            "glu_linear": self._glu_linear,
            "attention": self._attention,
            "select_rows": self._select_rows,
        }
        for i, op in enumerate(self._plan.ops):
            outs = run[op.kind](op, step, *(slots[s] for s in op.ins))
            slots.update(zip(op.outs, outs, strict=True))
            if trace is not None:
                trace(i, op, outs)
        for sequence, position in zip(step.sequences.tolist(), step.positions.tolist(), strict=True):
            self._lengths[sequence] = position + 1
        return slots[self._plan.out]

    def forget(self, sequence: int) -> None:
        """Drop the cached keys and values of a sequence."""
        self._lengths.pop(sequence, None)
        for key in [key for key in self._cache if key[1] == sequence]:
            del self._cache[key]

    def _embed(self, op: Op, step: Step) -> tuple[F32, ...]:
        table, tokens = self._tables[op.weights[0]], step.tokens
        rows = table[1] if isinstance(table, tuple) else table
        if tokens.max() >= len(rows):
            raise ValueError(f"token id {tokens.max()} lies outside the vocabulary of {len(rows)}")
        x = _decoded((table[0], table[1][tokens]) if isinstance(table, tuple) else table[tokens])
        return (x if op.attrs["scale"] == 1.0 else x * np.float32(op.attrs["scale"]),)

    def _rms_norm(self, op: Op, step: Step, x: F32) -> tuple[F32, ...]:
        return (rms_norm(x, self._vectors[op.weights[0]], op.attrs["eps"]),)

    def _projections(self, op: Op, x: F32) -> list[F32]:
        norm = op.attrs["norm"]
        if norm is not None:
            x = rms_norm(x, self._vectors[norm.weight], norm.eps)
        outs = [linear(self._matrices[name], x) for name in op.weights]
        with np.errstate(all="ignore"):
            pairs = zip(outs, op.attrs["biases"], strict=True)
            return [y if bias is None else y + self._vectors[bias] for y, bias in pairs]

    def _linear(self, op: Op, step: Step, x: F32, *residual: F32) -> tuple[F32, ...]:
        outs = self._projections(op, x)
        with np.errstate(all="ignore"):
            return tuple(residual[0] + y for y in outs) if residual else tuple(outs)

    def _glu_linear(self, op: Op, step: Step, x: F32) -> tuple[F32, ...]:
        gate, up = self._projections(op, x)
        with np.errstate(all="ignore"):
            return (silu(gate) * up,)

    def _attention(self, op: Op, step: Step, q: F32, k: F32, v: F32) -> tuple[F32, ...]:
        a = op.attrs
        q, k, v = (x.reshape(len(x), -1, a["head_dim"]) for x in (q, k, v))
        rope: Rope | None = a["rope"]
        if rope is not None:
            cos, sin = rotation_table(step.positions, rope.frequencies, rope.attention_factor)
            q, k = (rotate(x, cos, sin, interleaved=rope.layout == "norm") for x in (q, k))
        out = np.empty_like(q)
        for sequence in np.unique(step.sequences).tolist():
            rows = np.nonzero(step.sequences == sequence)[0]
            positions = step.positions[rows]
            kept = self._cache.get((a["layer"], sequence), (k[:0], v[:0]))
            new = (round_to_cache(x[rows], self._cache_type) for x in (k, v))
            keys, values = (np.concatenate([x[: positions[0]], y]) for x, y in zip(kept, new, strict=True))
            self._cache[a["layer"], sequence] = keys, values
            out[rows] = attend(q[rows], keys, values, positions, a["scale"], window=a["window"], chunk=a["chunk"])
        return (out.reshape(len(out), -1),)

    def _select_rows(self, op: Op, step: Step, x: F32) -> tuple[F32, ...]:
        return (x[step.wanted],)


def _decoded(weight: tuple[Format, NDArray[np.uint8]] | F32) -> F32:
    return decode(*weight) if isinstance(weight, tuple) else np.asarray(weight, np.float32)


def _matrix(weight: tuple[Format, NDArray[np.uint8]] | F32) -> Unpacked | F32:
    if isinstance(weight, tuple) and can_unpack(weight[0]):
        return unpack(*weight)
    return _decoded(weight)
