"""delta_net: gated delta rule. Each head has a matrix of a sequence's past, which every token decays and corrects.

Yang, Kautz and Hatamizadeh (2024), Gated delta networks. The recurrence, token by token, is what it means; a prompt is
read the same way, so that its logits do not depend on chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import exp32, fma32, log64, rms_norm, sigmoid
from llamaq.plan.op import F32, Lowering, Op, Run
from llamaq.plan.operands import StateLayer, Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["DeltaNet", "TracesDeltaNet", "left_of_past", "softplus"]

_EPS = 1e-6  # the lengths of queries and keys are kept from zero by it


@dataclass(frozen=True)
class DeltaNet(Op):
    """``heads`` have values of ``value_dim`` numbers, ``key_heads`` queries and keys of ``key_dim``. ``grouped``: heads
    that share a key head stand together, and so do their gates; else head j has key head j modulo ``key_heads``."""

    kind: ClassVar[str] = "delta_net"

    decay: Weight
    step: Weight
    norm: Weight
    eps: float
    layer: int
    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    grouped: bool

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, gates = ins
        if self.heads % self.key_heads:
            raise ModelError(f"{self.heads} heads of values cannot share {self.key_heads} heads of keys")
        for vector, count in ((self.decay, self.heads), (self.step, self.heads), (self.norm, self.value_dim)):
            shapes.check_vector(vector, count)
        cols = 2 * self.key_heads * self.key_dim + self.heads * self.value_dim
        if x.cols != cols:
            raise ModelError(f"{x.source!r}: expected {cols} columns of queries, keys and values, got {x.cols}")
        if gates.cols != 2 * self.heads:
            raise ModelError(f"{gates.source!r}: expected two gates for each of {self.heads} heads, got {gates.cols}")
        if x.selected:
            raise ValueError("delta_net comes before select_rows")
        return (self.heads * self.value_dim,)

    @property
    def remembers(self) -> StateLayer:
        return StateLayer(self.layer, self.heads * self.key_dim * self.value_dim, self.kind)

    def scratch_cols(self, cols: tuple[int, ...]) -> int:
        return 2 * self.key_heads * self.key_dim

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        return {**super().attributes(lowering), "layer": lowering.state(self.remembers)}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, gates = ins
        rows, keys, dim = len(x), self.key_heads, self.key_dim
        q, k = (part.reshape(rows, keys, dim) for part in np.split(x[:, : 2 * keys * dim], 2, axis=1))
        v = x[:, 2 * keys * dim :].reshape(rows, self.heads, self.value_dim)
        with np.errstate(all="ignore"):
            # The norm divides by the root of the mean square: by the length over the root of the dimension.
            q = rms_norm(q, None, _EPS / dim) * np.float32(1 / dim)
            k = rms_norm(k, None, _EPS / dim) * np.float32(1 / np.sqrt(dim))
            strength, decay = self._gates(run, gates)
        head = np.arange(self.heads)
        key_of = head // (self.heads // keys) if self.grouped else head % keys
        states = {s: run.state(self.remembers, s) for s in run.step.spans}
        out = np.empty_like(v)
        for row, sequence in enumerate(run.step.sequences.tolist()):
            state = states[sequence].reshape(self.heads, dim, self.value_dim)
            out[row] = _token(state, q[row, key_of], k[row, key_of], v[row], decay[row], strength[row])
        return (rms_norm(out, run.vector(self.norm), self.eps).reshape(rows, -1),)

    def _gates(self, run: Run, gates: F32) -> tuple[F32, F32]:
        """How much of the correction is made, and what is left of the past: (rows, heads) each."""
        if self.grouped:
            each = gates.reshape(len(gates), self.key_heads, 2, -1)
            b, a = each[:, :, 0].reshape(len(gates), -1), each[:, :, 1].reshape(len(gates), -1)
        else:
            b, a = np.split(gates, 2, axis=1)
        return sigmoid(b), left_of_past(softplus(a + run.vector(self.step)) * run.vector(self.decay))


def softplus(x: F32) -> F32:
    """log(1 + exp(x))."""
    rest = log64(1.0 + exp32(-abs(x)).astype(np.float64))
    return np.asarray(np.where(x > 0, x, np.float32(0)) + rest.astype(np.float32))


def left_of_past(fall: F32) -> F32:
    """exp(min(0, fall))."""
    return exp32(np.where(fall > 0, np.float32(0), fall))


def _token(state: F32, q: F32, k: F32, v: F32, decay: F32, strength: F32) -> F32:
    """One token of all heads: ``state`` (heads, keys, values) moves on. All sums ascend with the dimension of keys."""
    known, out = np.zeros_like(v), np.zeros_like(v)
    with np.errstate(all="ignore"):
        state *= decay[:, None, None]
        for i in range(state.shape[1]):
            known = fma32(state[:, i], k[:, i, None], known)
        change = (v - known) * strength[:, None]
        for i in range(state.shape[1]):
            state[:, i] = fma32(change, k[:, i, None], state[:, i])
            out = fma32(state[:, i], q[:, i, None], out)
    return out


class TracesDeltaNet(Tracer):
    def delta_net(
        self, x: Value, gates: Value, *, decay: str, step: str, norm: str, eps: float, layer: int, heads: int,
        key_heads: int, key_dim: int, value_dim: int, grouped: bool,
    ) -> Value:  # fmt: skip
        """The gated delta rule over ``x``, queries and keys of ``key_heads`` and values of ``heads``, each head's
        result normed with ``norm``. ``gates`` are (b, a). Queries and keys get length 1, and q is divided by the root
        of its dimension. A head's matrix T (keys, values), first zeros, becomes with each token
        ``T *= exp(min(0, decay * softplus(a + step)))``, then ``T += k * sigmoid(b) * (v - k @ T)``, and gives
        ``q @ T``. ``decay``, ``step`` and ``norm`` are full names of tensors."""
        vectors = (Weight(decay, "vector"), Weight(step, "vector"), Weight(norm, "vector"))
        op = DeltaNet(*vectors, eps, layer, heads, key_heads, key_dim, value_dim, grouped)
        return self.emit(op, x, gates)[0]
