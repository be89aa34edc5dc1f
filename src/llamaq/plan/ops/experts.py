"""experts: a row's parts times the matrices of its experts, summed with their weights, plus a residual, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.ops.expert_product import expert_products, expert_shapes, split_routing
from llamaq.plan.shapes import Shapes, WeightName
from llamaq.plan.tracer import Tracer

__all__ = ["Experts", "TracesExperts"]


@dataclass(frozen=True)
class Experts(Op):
    kind: ClassVar[str] = "experts"

    weights: tuple[Weight]
    biases: tuple[Weight | None]
    used: int
    weighted: bool

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        h, routing, *add = ins
        rows = expert_shapes(shapes, h.cols // self.used, h.source, routing, self.used, self.weights, self.biases)
        if add and (add[0].cols, add[0].selected) != (rows, h.selected):
            raise ModelError(
                f"tensor {self.weights[0].name!r}: expected {add[0].cols} rows to match the residual "
                f"({add[0].source}), got {rows}"
            )
        return (rows,)

    def scratch_cols(self, cols: tuple[int, ...]) -> int:
        return self.used * cols[0]

    @property
    def experts_used(self) -> int:
        return self.used

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        h, (experts, weights), add = ins[0], split_routing(ins[1]), ins[2:]
        parts = expert_products(run, self.weights[0], self.biases[0], h.reshape(*experts.shape, -1), experts)
        with np.errstate(all="ignore"):
            if self.weighted:
                parts = parts * weights[..., None]
            total = parts[:, 0]
            for rank in range(1, self.used):
                total = total + parts[:, rank]
            return (add[0] + total if add else total,)


class TracesExperts(Tracer):
    def experts(
        self, h: Value, routing: Value, weight: WeightName, *, add: Value | None = None, weighted: bool = True
    ) -> Value:
        """``add`` (if any) plus the sum, in the order of rank, of each part of ``h`` times the matrix of its expert
        (and its bias), times the expert's weight unless it is not ``weighted``."""
        op = Experts((self.shapes.weight(weight, "stack"),), (self.shapes.bias(weight),), routing.cols // 2, weighted)
        return self.emit(op, h, routing, *([] if add is None else [add]))[0]
