"""route: which experts a row goes to, by its logits for all of them, and the weight of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.plan.arithmetic import exp32, lane_sum, sigmoid
from llamaq.plan.op import F32, Op, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes
from llamaq.plan.tracer import Tracer

__all__ = ["Gating", "Route", "TracesRoute"]

Gating: TypeAlias = Literal["softmax", "sigmoid", "softmax_of_chosen"]
"""What an expert's weight is made of: all logits, its own, or those of the chosen."""

_LEAST_TOTAL = np.float32(2.0**-14)  # weights are divided by no less


def _softmax(x: F32) -> F32:
    powers = exp32(x - x.max(-1, keepdims=True))
    return np.asarray(powers / lane_sum(powers)[..., None])


_GATINGS: dict[str, Callable[[F32], F32]] = {"softmax": _softmax, "sigmoid": sigmoid, "softmax_of_chosen": np.asarray}


@dataclass(frozen=True)
class Route(Op):
    kind: ClassVar[str] = "route"

    experts: int
    used: int
    gating: Gating
    normalize: bool
    scale: float
    selection: Weight | None
    groups: int
    groups_used: int
    factors: Weight | None = None

    def shapes(self, shapes: Shapes, *ins: Value) -> tuple[int, ...]:
        if self.experts < 1 or self.experts % self.groups or not 1 <= self.groups_used <= self.groups:
            raise ModelError(
                f"{self.experts} experts do not make {self.groups} groups, {self.groups_used} of them used"
            )
        if not 1 <= self.used <= self.experts // self.groups * self.groups_used:
            raise ModelError(f"a token cannot go to {self.used} of {self.experts} experts ({self.groups_used} groups)")
        if self.selection is not None:
            shapes.check_vector(self.selection, self.experts)
        if self.factors is not None:
            shapes.check_vector(self.factors, self.experts)
        return (2 * self.used,)

    def reference(self, run: Run, *ins: F32) -> tuple[F32, ...]:
        (logits,) = ins
        with np.errstate(all="ignore"):
            shares = _GATINGS[self.gating](logits)
            # Logits order like shares, and do not become equal where those are rounded.
            scores = logits if self.groups == 1 else shares
            if self.selection is not None:
                scores = shares + run.vector(self.selection)
            scores = _known(scores)
            chosen = _greatest(scores, self.used, self._excluded(scores))
            weights = np.take_along_axis(shares, chosen, -1)
            if self.gating == "softmax_of_chosen":
                weights = _softmax(weights)
            if self.normalize:
                weights = np.asarray(weights / np.maximum(lane_sum(weights), _LEAST_TOTAL)[:, None], np.float32)
            weights = weights * np.float32(self.scale)
            if self.factors is not None:
                weights = weights * run.vector(self.factors)[chosen]
            return (np.concatenate([chosen.astype(np.float32), weights], axis=-1),)

    def _excluded(self, scores: F32) -> NDArray[np.bool_]:
        """Experts of other groups than the best. A group is as good as its two best experts together."""
        if self.groups == 1:
            return np.zeros(scores.shape, bool)
        grouped = scores.reshape(len(scores), self.groups, -1)
        best = np.take_along_axis(grouped, _greatest(grouped, min(2, grouped.shape[-1])), -1)
        sums = _known(best[..., 0] + best[..., 1]) if best.shape[-1] == 2 else best[..., 0]
        excluded = np.ones(sums.shape, bool)
        np.put_along_axis(excluded, _greatest(sums, self.groups_used), False, -1)
        return np.repeat(excluded, self.experts // self.groups, axis=-1)


class TracesRoute(Tracer):
    def route(
        self,
        logits: Value,
        *,
        used: int,
        gating: Gating = "softmax",
        normalize: bool = True,
        scale: float = 1.0,
        selection: str | None = None,
        groups: int = 1,
        groups_used: int = 1,
        factors: str | None = None,
    ) -> Value:
        """The ``used`` experts of each row with the greatest logits, of equal ones the first: their numbers in the
        order of rank, then their weights, ``used`` columns each.

        A weight is the expert's share by ``gating``; with ``normalize`` those of a row are divided by their sum; all
        are multiplied by ``scale``. With the tensor ``selection`` (its full name) shares plus its numbers decide who
        is chosen, and with ``groups`` shares do, among the experts of the ``groups_used`` best groups.
        ``factors`` (a full name, too) has a number for each expert that its weight is multiplied with in the end.
        """
        bias, each = (None if name is None else Weight(name, "vector") for name in (selection, factors))
        op = Route(logits.cols, used, gating, normalize, float(scale), bias, groups, groups_used, each)
        return self.emit(op, logits)[0]


def _known(scores: F32) -> F32:
    return np.where(np.isnan(scores), np.float32(-np.inf), scores)


def _greatest(scores: F32, count: int, excluded: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Numbers of the greatest scores along the last axis, the greatest first, of equal ones the lower number."""
    keys = (-scores,) if excluded is None else (-scores, excluded)
    return np.lexsort(keys, axis=-1)[..., :count]
