"""linear: products with one matrix or several that read the same input, plus a second input where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, overload

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.activations import softcap as capped
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Norm, Value, Weight
from llamaq.plan.ops.product import product_shapes, products
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["Linear", "TracesLinear"]


@dataclass(frozen=True)
class Linear(Op):
    kind: ClassVar[str] = "linear"

    weights: tuple[Weight, ...]
    biases: tuple[Weight | None, ...]
    norm: Norm | None
    scale: float = 1.0
    softcap: float = 0.0

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, *add = ins
        if not self.weights or (add and len(self.weights) != 1):
            raise ValueError("linear takes at least one weight, and exactly one where something is added")
        rows = product_shapes(shapes, x, self.weights, self.biases, self.norm)
        if add and (add[0].cols, add[0].selected) != (rows[0], x.selected):
            raise ModelError(
                f"tensor {self.weights[0].name!r}: expected {add[0].cols} rows to match the residual "
                f"({add[0].source}), got {rows[0]}"
            )
        return rows

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, *add = ins
        outs = products(run, x, self.weights, self.biases, self.norm)
        with np.errstate(all="ignore"):
            if self.scale != 1.0:
                outs = [y * np.float32(self.scale) for y in outs]
            if self.softcap != 0.0:
                outs = [capped(y, self.softcap) for y in outs]
            return (add[0] + outs[0],) if add else tuple(outs)


class TracesLinear(Tracer):
    @overload
    def linear(
        self,
        x: Value,
        weight: WeightName,
        /,
        *,
        norm: Norm | None = None,
        add: Value | None = None,
        scale: float = 1.0,
        softcap: float = 0.0,
    ) -> Value: ...

    @overload
    def linear(self, x: Value, /, *weights: WeightName, norm: Norm | None = None) -> tuple[Value, ...]: ...

    def linear(
        self,
        x: Value,
        /,
        *weights: WeightName,
        norm: Norm | None = None,
        add: Value | None = None,
        scale: float = 1.0,
        softcap: float = 0.0,
    ) -> Value | tuple[Value, ...]:
        """``norm(x) @ W.T`` (+ bias) for each weight; several share one norm and quantization. Then, where they are
        given, times ``scale``, as ``softcap * tanh(y / softcap)``, and ``add`` to it."""
        op = Linear(
            tuple(self.shapes.weight(w, "matrix") for w in weights),
            tuple(self.shapes.bias(w) for w in weights),
            self.shapes.norm(norm),
            float(scale),
            float(softcap),
        )
        outs = self.emit(op, x, *([] if add is None else [add]))
        return outs[0] if len(outs) == 1 else outs
