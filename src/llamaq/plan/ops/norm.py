"""norm: each row normed (``Norm`` says how), plus a second input where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import layer_norm, rms_norm
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Norm, Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["NormRows", "TracesNorm", "normed"]


@dataclass(frozen=True)
class NormRows(Op):
    kind: ClassVar[str] = "norm"

    norm: Norm
    cols: int

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        x, *add = ins
        shapes.check_norm(self.norm, x)
        if add and (add[0].cols, add[0].selected) != (x.cols, x.selected):
            raise ModelError(f"{x.source}: expected {add[0].cols} columns to match the residual, got {x.cols}")
        return (self.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        x, *add = ins
        y = normed(self.norm, x, run.vector)
        with np.errstate(all="ignore"):
            return (add[0] + y,) if add else (y,)


class TracesNorm(Tracer):
    def norm(self, x: Value, norm: Norm, *, add: Value | None = None) -> Value:
        """``norm(x)`` (+ ``add``)."""
        return self.emit(NormRows(self.shapes.norm(norm), x.cols), x, *([] if add is None else [add]))[0]


def normed(norm: Norm, x: F32, vector: Callable[[str], F32]) -> F32:
    """Rows after a norm, whose tensors ``vector`` gives by name."""
    weight, bias = (None if name is None else vector(name) for name in (norm.weight, norm.bias))
    return layer_norm(x, weight, bias, norm.eps) if norm.kind == "layer" else rms_norm(x, weight, norm.eps)
