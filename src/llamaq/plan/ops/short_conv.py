"""short_conv: a causal convolution over time of a few taps, column by column, between two gates.

Liquid AI (2025), LFM2. What it needs of earlier rows is the state of a sequence: the last values that went into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
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

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        (x,) = ins
        found = shapes.of(self.weight.name, 2)
        if found != (self.width, self.taps) or self.taps < 2:
            wanted = (self.width, max(2, self.taps))
            raise ModelError(f"tensor {self.weight.name!r}: expected shape {wanted} (columns, taps), got {found}")
        if x.cols != 3 * self.width:
            raise ModelError(
                f"tensor {x.source!r}: expected {3 * self.width} rows (two gates and values), got {x.cols}"
            )
        if x.selected:
            raise ValueError("short_conv comes before select_rows")
        return (self.width,)

    @property
    def remembers(self) -> StateLayer:
        return StateLayer(self.layer, (self.taps - 1) * self.width)

    def attributes(self, lowering: Lowering) -> dict[str, object]:
        return {**super().attributes(lowering), "layer": lowering.state(self.layer)}

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        b, c, u = np.split(ins[0], 3, axis=1)
        w = run.vector(self.weight).reshape(self.width, self.taps)
        floats = self.remembers.floats
        states = {s: run.state(self.layer, s, floats) for s in np.unique(run.step.sequences).tolist()}
        out = np.empty_like(b)
        with np.errstate(all="ignore"):
            for row, sequence in enumerate(run.step.sequences.tolist()):
                kept = states[sequence].reshape(self.taps - 1, self.width)
                values = [*kept.copy(), b[row] * u[row]]
                total = w[:, 0] * values[0]
                for tap in range(1, self.taps):
                    total = fma32(w[:, tap], values[tap], total)
                out[row] = c[row] * total
                kept[:] = values[1:]
        return (out,)


class TracesShortConv(Tracer):
    def short_conv(self, x: Value, weight: str, *, layer: int, taps: int) -> Value:
        """``c * conv(b * u)`` of ``x`` = (b, c, u): each column's last ``taps`` values times ``weight`` (columns,
        taps), the newest last; values before the first token are zeros."""
        return self.emit(ShortConv(self.shapes.weight(weight, "vector"), layer, x.cols // 3, taps), x)[0]
