"""act_experts: for each row and each of its experts ``act(x @ W.T + bias)``, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.activations import ACTIVATIONS, Activation
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.ops.expert_product import expert_products, expert_shapes, split_routing
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["ActExperts", "TracesActExperts"]


@dataclass(frozen=True)
class ActExperts(Op):
    kind: ClassVar[str] = "act_experts"

    weights: tuple[Weight]
    biases: tuple[Weight | None]
    used: int
    act: Activation

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if self.act not in ACTIVATIONS:
            raise ValueError(f"the activation {self.act!r} needs a gate")
        x, routing = ins
        return (self.used * expert_shapes(shapes, x.cols, x.source, routing, self.used, self.weights, self.biases),)

    @property
    def experts_used(self) -> int:
        return self.used

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, (experts, _) = ins[0], split_routing(ins[1])
        each = np.repeat(x[:, None], self.used, axis=1)
        y = expert_products(run, self.weights[0], self.biases[0], each, experts)
        with np.errstate(all="ignore"):
            return (ACTIVATIONS[self.act](y).reshape(len(x), -1),)


class TracesActExperts(Tracer):
    def act_experts(self, x: Value, routing: Value, weight: WeightName, *, act: Activation) -> Value:
        """``act(x @ W.T + bias)`` with the matrix of each of a row's experts, in the order of ``route``."""
        stack = (self.shapes.weight(weight, "stack"),)
        return self.emit(ActExperts(stack, (self.shapes.bias(weight),), routing.cols // 2, act), x, routing)[0]
