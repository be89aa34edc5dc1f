"""glu_experts: for each row and each of its experts ``act(x @ gate.T) * (x @ up.T)``, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.plan.activations import GATED, Activation
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.ops.expert_product import expert_products, expert_shapes, split_routing
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["GluExperts", "TracesGluExperts"]


@dataclass(frozen=True)
class GluExperts(Op):
    kind: ClassVar[str] = "glu_experts"

    weights: tuple[Weight, Weight]
    biases: tuple[Weight | None, Weight | None]
    used: int
    act: Activation
    weighted_input: bool

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, routing = ins
        return (self.used * expert_shapes(shapes, x.cols, x.source, routing, self.used, self.weights, self.biases),)

    @property
    def experts_used(self) -> int:
        return self.used

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, (experts, weights) = ins[0], split_routing(ins[1])
        with np.errstate(all="ignore"):
            each = np.repeat(x[:, None], self.used, axis=1)
            each = each * weights[..., None] if self.weighted_input else each
            gate, up = (
                expert_products(run, w, b, each, experts) for w, b in zip(self.weights, self.biases, strict=True)
            )
            return (GATED[self.act](gate, up).reshape(len(x), -1),)


class TracesGluExperts(Tracer):
    def glu_experts(
        self,
        x: Value,
        routing: Value,
        gate: WeightName,
        up: WeightName,
        *,
        act: Activation = "silu",
        weighted_input: bool = False,
    ) -> Value:
        """``act(x @ gate.T) * (x @ up.T)`` with the matrices of each of a row's experts, in the order of ``route``, and
        the biases of both; with ``weighted_input`` x is multiplied by the expert's weight first."""
        op = GluExperts(
            (self.shapes.weight(gate, "stack"), self.shapes.weight(up, "stack")),
            (self.shapes.bias(gate), self.shapes.bias(up)),
            routing.cols // 2,
            act,
            weighted_input,
        )
        return self.emit(op, x, routing)[0]
