"""head_linear: the first columns of each head times a matrix of its own; those that are left follow as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["HeadLinear", "TracesHeadLinear"]


@dataclass(frozen=True)
class HeadLinear(Op):
    kind: ClassVar[str] = "head_linear"

    weight: Weight
    heads: int
    head_dim: int
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        heads, rows, cols = shapes.stack(self.weight)
        if heads != self.heads or cols > self.head_dim or cols != self.cols:
            raise ModelError(
                f"tensor {self.weight.name!r}: expected {self.heads} matrices of at most {self.head_dim} columns "
                f"({ins[0].source}), got {heads} of {cols}"
            )
        return (heads * (rows + self.head_dim - cols),)

    @property
    def experts_used(self) -> int:
        return self.heads

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x = ins[0].reshape(len(ins[0]), self.heads, self.head_dim)
        found = [
            np.concatenate([run.multiply(self.weight, x[:, head, : self.cols], head), x[:, head, self.cols :]], axis=-1)
            for head in range(self.heads)
        ]
        return (np.stack(found, axis=1).reshape(len(x), -1),)


class TracesHeadLinear(Tracer):
    def head_linear(self, x: Value, weight: str, *, heads: int) -> Value:
        """Of each head of x the first columns times its matrix in the stack ``weight`` (heads, rows, columns), and
        behind that the columns that are left."""
        if x.cols % heads:
            raise ModelError(f"tensor {x.source!r}: expected a multiple of {heads} rows (heads), got {x.cols}")
        stack = self.shapes.weight(weight, "stack")
        return self.emit(HeadLinear(stack, heads, x.cols // heads, self.shapes.stack(stack)[2]), x)[0]
