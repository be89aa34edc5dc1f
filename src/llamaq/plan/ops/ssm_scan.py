"""ssm_scan: Mamba-2's recurrence. Each head has a matrix of a sequence's past, which every token decays and adds to.

Dao and Gu (2024), Transformers are SSMs. The recurrence, token by token, is what it means; a prompt is read the same
way, so that its logits do not depend on chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import fma32
from llamaq.plan.op import F32, Lowering, Op, Run
from llamaq.plan.operands import StateLayer, Value, Weight
from llamaq.plan.ops.delta_net import left_of_past, softplus
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["SsmScan", "TracesSsmScan"]


@dataclass(frozen=True)
class SsmScan(Op):
    """``heads`` of ``head_dim`` numbers in ``groups``, of which each has a ``b`` and a ``c`` of ``state_dim``."""

    kind: ClassVar[str] = "ssm_scan"

    decay: Weight
    bias: Weight
    skip: Weight
    layer: int
    heads: int
    groups: int
    state_dim: int
    head_dim: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, steps = ins
        if self.heads % self.groups:
            raise ModelError(f"{self.heads} heads of a scan cannot share {self.groups} groups")
        for vector in (self.decay, self.bias, self.skip):
            shapes.check_vector(vector, self.heads)
        cols = self.heads * self.head_dim + 2 * self.groups * self.state_dim
        if x.cols != cols:
            raise ModelError(f"{x.source!r}: expected {cols} columns of heads and of groups, got {x.cols}")
        if steps.cols != self.heads:
            raise ModelError(f"{steps.source!r}: expected a step for each of {self.heads} heads, got {steps.cols}")
        if x.selected:
            raise ValueError("ssm_scan comes before select_rows")
        return (self.heads * self.head_dim,)

    @property
    def remembers(self) -> StateLayer:
        return StateLayer(self.layer, self.heads * self.state_dim * self.head_dim, self.kind)

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        return {**super().attributes(lowering), "layer": lowering.state(self.remembers)}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, steps = ins
        rows, inner = len(x), self.heads * self.head_dim
        u = x[:, :inner].reshape(rows, self.heads, self.head_dim)
        b, c = (part.reshape(rows, self.groups, -1) for part in np.split(x[:, inner:], 2, axis=1))
        group_of = np.arange(self.heads) // (self.heads // self.groups)
        with np.errstate(all="ignore"):
            step = softplus(steps + run.vector(self.bias).reshape(-1))
            decay = left_of_past(step * run.vector(self.decay).reshape(-1))
        skip = run.vector(self.skip).reshape(-1, 1)
        states = {s: run.state(self.remembers, s) for s in run.step.spans}
        out = np.empty_like(u)
        for row, sequence in enumerate(run.step.sequences.tolist()):
            state = states[sequence].reshape(self.heads, self.state_dim, self.head_dim)
            came = u[row] * step[row, :, None]
            y = _token(state, b[row, group_of], c[row, group_of], came, decay[row])
            out[row] = fma32(skip, u[row], y)
        return (out.reshape(rows, inner),)


def _token(state: F32, b: F32, c: F32, came: F32, decay: F32) -> F32:
    """One token of all heads: ``state`` (heads, states, columns) moves on. The sum ascends with the dimension of it."""
    out = np.zeros_like(came)
    with np.errstate(all="ignore"):
        state *= decay[:, None, None]
        for i in range(state.shape[1]):
            state[:, i] = fma32(b[:, i, None], came, state[:, i])
            out = fma32(state[:, i], c[:, i, None], out)
    return out


class TracesSsmScan(Tracer):
    def ssm_scan(
        self, x: Value, steps: Value, *, decay: str, bias: str, skip: str, layer: int, heads: int, groups: int,
        state_dim: int, head_dim: int,
    ) -> Value:  # fmt: skip
        """Mamba-2's recurrence over ``x`` = (u of ``heads``, b and c of ``groups``), a step's length for each head in
        ``steps``. With ``t = softplus(steps + bias)`` a head's matrix T (states, columns), first zeros, becomes with
        each token ``T * exp(min(0, decay * t)) + outer(b, u * t)``, and gives ``c @ T + skip * u``. ``decay``, ``bias``
        and ``skip`` are full names of tensors."""
        vectors = (Weight(decay, "vector"), Weight(bias, "vector"), Weight(skip, "vector"))
        return self.emit(SsmScan(*vectors, layer, heads, groups, state_dim, head_dim), x, steps)[0]
