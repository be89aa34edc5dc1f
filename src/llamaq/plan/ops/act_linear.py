"""act_linear: ``act(norm(x) @ W.T + bias)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.activations import ACTIVATIONS, Activation
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Norm, Value, Weight
from llamaq.plan.ops.product import product_shapes, products
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["ActLinear", "TracesActLinear"]


@dataclass(frozen=True)
class ActLinear(Op):
    kind: ClassVar[str] = "act_linear"

    weights: tuple[Weight]
    biases: tuple[Weight | None]
    norm: Norm | None
    act: Activation

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if self.act not in ACTIVATIONS:
            raise ValueError(f"the activation {self.act!r} needs a gate")
        return product_shapes(shapes, ins[0], self.weights, self.biases, self.norm)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        (y,) = products(run, ins[0], self.weights, self.biases, self.norm)
        with np.errstate(all="ignore"):
            return (ACTIVATIONS[self.act](y),)


class TracesActLinear(Tracer):
    def act_linear(self, x: Value, weight: WeightName, *, act: Activation, norm: Norm | None = None) -> Value:
        """``act(norm(x) @ W.T + bias)``."""
        op = ActLinear(
            (self.shapes.weight(weight, "matrix"),), (self.shapes.bias(weight),), self.shapes.norm(norm), act
        )
        return self.emit(op, x)[0]
