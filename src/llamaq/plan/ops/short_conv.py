"""short_conv: a causal convolution over time of a few taps, column by column, between two gates or before a SiLU.

Liquid AI (2025), LFM2; Yang et al. (2024), gated delta nets. What it needs of earlier rows is the state of a sequence:
the last values that went into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.activations import ACTIVATIONS
from llamaq.plan.arithmetic import fma32
from llamaq.plan.op import F32, Lowering, Op, Run
from llamaq.plan.operands import StateLayer, Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["ShortConv", "TracesShortConv"]


@dataclass(frozen=True)
class ShortConv(Op):
    kind: ClassVar[str] = "short_conv"

    weight: Weight
    layer: int
    width: int
    taps: int
    gated: bool = True
    bias: Weight | None = None

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        (x,) = ins
        found = shapes.of(self.weight.name, 2)
        if found != (self.width, self.taps) or self.taps < 2:
            wanted = (self.width, max(2, self.taps))
            raise ModelError(f"tensor {self.weight.name!r}: expected shape {wanted} (columns, taps), got {found}")
        if self.bias is not None:
            shapes.check_vector(self.bias, self.width)
            if self.gated:
                raise ModelError(f"tensor {self.bias.name!r}: a convolution between gates has no bias")
        parts = 3 if self.gated else 1
        if x.cols != parts * self.width:
            what = "two gates and values" if self.gated else "values"
            raise ModelError(f"tensor {x.source!r}: expected {parts * self.width} rows ({what}), got {x.cols}")
        if x.selected:
            raise ValueError("short_conv comes before select_rows")
        return (self.width,)

    @property
    def remembers(self) -> StateLayer:
        return StateLayer(self.layer, (self.taps - 1) * self.width, self.kind)

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        return {**super().attributes(lowering), "layer": lowering.state(self.remembers)}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        b, c, u = np.split(ins[0], 3, axis=1) if self.gated else (None, None, ins[0])
        w = run.vector(self.weight).reshape(self.width, self.taps)
        states = {s: run.state(self.remembers, s) for s in run.step.spans}
        out = np.empty_like(u)
        with np.errstate(all="ignore"):
            for row, sequence in enumerate(run.step.sequences.tolist()):
                kept = states[sequence].reshape(self.taps - 1, self.width)
                values = [*kept.copy(), u[row] if b is None else b[row] * u[row]]
                total = w[:, 0] * values[0]
                for tap in range(1, self.taps):
                    total = fma32(w[:, tap], values[tap], total)
                total = total if self.bias is None else total + run.vector(self.bias)
                out[row] = ACTIVATIONS["silu"](total) if c is None else c[row] * total
                kept[:] = values[1:]
        return (out,)


class TracesShortConv(Tracer):
    def short_conv(self, x: Value, weight: str, *, layer: int, taps: int, gated: bool = True) -> Value:
        """``c * conv(b * u)`` of ``x`` = (b, c, u), or if not ``gated`` ``silu(conv(x) + bias)``: each column's last
        ``taps`` values times ``weight`` (columns, taps), the newest last; values before the first token are zeros."""
        width = x.cols // 3 if gated else x.cols
        op = ShortConv(self.shapes.weight(weight, "vector"), layer, width, taps, gated, self.shapes.bias(weight))
        return self.emit(op, x)[0]
