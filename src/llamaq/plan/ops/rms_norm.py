"""rms_norm: each row over the root of its mean square, times a vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llamaq.plan.arithmetic import rms_norm
from llamaq.plan.op import F32, Norm, Op, Run, Value
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["RmsNorm", "TracesRmsNorm"]


@dataclass(frozen=True)
class RmsNorm(Op):
    kind: ClassVar[str] = "rms_norm"

    norm: Norm

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        (x,) = ins
        shapes.check_norm(self.norm, x)
        return (x.cols,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        return (rms_norm(ins[0], run.vector(self.norm.weight), self.norm.eps),)


class TracesRmsNorm(Tracer):
    def rms_norm(self, x: Value, weight: str, eps: float) -> Value:
        """RMS norm of each row, times ``weight``."""
        return self.emit(RmsNorm(Norm(f"{weight}.weight", eps)), x)[0]
