"""glu_linear: ``act(norm(x) @ gate.T) * (norm(x) @ up.T)``, with the biases of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.activations import GATED, Activation
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Norm, Value, Weight
from llamaq.plan.ops.product import product_shapes, products
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["GluLinear", "TracesGluLinear"]


@dataclass(frozen=True)
class GluLinear(Op):
    kind: ClassVar[str] = "glu_linear"

    weights: tuple[Weight, Weight]
    biases: tuple[Weight | None, Weight | None]
    norm: Norm | None
    act: Activation = "silu"

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        gate, up = product_shapes(shapes, ins[0], self.weights, self.biases, self.norm)
        if gate != up:
            names = [weight.name for weight in self.weights]
            raise ModelError(f"tensor {names[1]!r}: expected {gate} rows as in {names[0]!r}, got {up}")
        return (gate,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        gate, up = products(run, ins[0], self.weights, self.biases, self.norm)
        with np.errstate(all="ignore"):
            return (GATED[self.act](gate, up),)


class TracesGluLinear(Tracer):
    def glu_linear(
        self, x: Value, gate: WeightName, up: WeightName, *, norm: Norm | None = None, act: Activation = "silu"
    ) -> Value:
        """``act(norm(x) @ gate.T) * (norm(x) @ up.T)``, with the biases of both."""
        op = GluLinear(
            (self.shapes.weight(gate, "matrix"), self.shapes.weight(up, "matrix")),
            (self.shapes.bias(gate), self.shapes.bias(up)),
            self.shapes.norm(norm),
            act,
        )
        return self.emit(op, x)[0]
