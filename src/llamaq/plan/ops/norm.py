"""norm: each row normed (``Norm`` says how), plus a second input where there is one, times a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import layer_norm, rms_norm
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Norm, Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["NormRows", "TracesNorm", "normed"]


@dataclass(frozen=True)
class NormRows(Op):
    kind: ClassVar[str] = "norm"

    norm: Norm
    cols: int
    heads: int = 1
    scale: float = 1.0
    factor: Weight | None = None
    own: bool = False

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, *add = ins
        if self.heads < 1 or self.cols % self.heads:
            raise ValueError(f"{self.cols} columns are no {self.heads} heads")
        for vector in self.norm.reads():
            parts = self.heads if self.own else 1
            shapes.check_vector(vector, self.cols // self.heads * parts, parts=parts)
        if self.factor is not None:
            shapes.check_vector(self.factor, 1)
        if add and (add[0].cols, add[0].selected) != (x.cols, x.selected):
            raise ModelError(f"{x.source}: expected {add[0].cols} columns to match the residual, got {x.cols}")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, *add = ins
        rows = x.reshape(len(x), self.heads, -1)
        y = normed(self.norm, rows, lambda name: run.vector(name).reshape(self.heads if self.own else 1, -1))
        y = y.reshape(x.shape)
        with np.errstate(all="ignore"):
            y = add[0] + y if add else y
            if self.scale != 1.0:
                y = y * np.float32(self.scale)
            return (y if self.factor is None else y * run.vector(self.factor),)


class TracesNorm(Tracer):
    def norm(
        self, x: Value, norm: Norm, *, add: Value | None = None, heads: int = 1, scale: float = 1.0,
        factor: str | None = None, own: bool = False,
    ) -> Value:  # fmt: skip
        """``norm(x)``, of each of its ``heads`` alone (+ ``add``), times ``scale`` and the one number of ``factor``.
        Heads share the weights of the norm, unless each has its ``own``."""
        weight = None if factor is None else self.shapes.weight(factor, "vector")
        op = NormRows(self.shapes.norm(norm), x.cols, heads, float(scale), weight, own)
        return self.emit(op, x, *([] if add is None else [add]))[0]


def normed(norm: Norm, x: F32, vector: Callable[[str], F32]) -> F32:
    """Rows after a norm, whose tensors ``vector`` gives by name."""
    weight, bias = (None if name is None else vector(name) for name in (norm.weight, norm.bias))
    return layer_norm(x, weight, bias, norm.eps) if norm.kind == "layer" else rms_norm(x, weight, norm.eps)
