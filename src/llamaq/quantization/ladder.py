"""What each tensor may become, at what cost, and the best choice under a limit.

The loss of a choice is a sum over tensors: the relative squared error of its weights in a format, times a sensitivity
of its group. Of each tensor only formats on the lower convex hull of error over bytes are of use; steps along the
hulls, the greatest gain for each byte first, are then the best choice for every size at which one of them ends (the
Lagrangian relaxation of the knapsack problem).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile
from llamaq.gguf.types import align_up
from llamaq.quantization.choice import kind_of, layer_of
from llamaq.quantization.encode import Search
from llamaq.quantization.importance import Importance
from llamaq.quantization.plan import TensorPlan

__all__ = ["LADDER", "LADDER_32", "Ladder", "Rung", "group_of", "ladder_of", "least_loss", "least_size", "loss_of"]

LADDER = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16")
"""The formats for rows that are multiples of 256; the source's own is above them."""

LADDER_32 = ("Q4_0", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16")
"""The formats for rows that are multiples of 32."""

_SAMPLE, _RUNS = 1 << 18, 16  # weights of a tensor that its errors are estimated from, in so many runs of rows

_GROUPS = {"attn_q": "attn_q+k", "attn_k": "attn_q+k", "attn_qkv": "attn_v", "attn_kv_b": "attn_v"}
_GROUPS |= {"ffn_up": "ffn_up+gate", "ffn_gate": "ffn_up+gate"}


@dataclass(frozen=True)
class Rung:
    """A tensor in one format: its bytes with padding, and squared error over squares, both weighted by importance."""

    tensor: TensorPlan
    nbytes: int
    error: float


@dataclass(frozen=True)
class Ladder:
    """The rungs of a tensor on the hull, from the smallest on, and the group whose sensitivity counts for it."""

    group: str
    rungs: tuple[Rung, ...]


def group_of(name: str, n_layer: int) -> str:
    """What it is for, and in which third of the blocks."""
    kind, layer = kind_of(name), layer_of(name)
    kind = _GROUPS.get(kind, kind)
    return kind if layer is None else f"{kind} {3 * min(layer, n_layer - 1) // max(n_layer, 1) + 1}/3"


def ladder_of(
    file: GGUFFile,
    tensor: TensorPlan,
    group: str,
    alignment: int,
    search: Search,
    importance: Importance,
) -> Ladder:
    """The ladder of a matrix, errors estimated from 2 ** 18 of its weights, in runs of rows across all of it."""
    source, cols = tensor.info.format, tensor.info.shape[-1]
    names = LADDER if cols % 256 == 0 else LADDER_32
    smaller = [f for f in map(format_by_name, names) if f.row_bytes(cols) < source.row_bytes(cols)]
    plans = [replace(tensor, format=format, wanted=None) for format in [*smaller, source]]
    errors = np.zeros(len(plans))
    squares = 0.0
    data = file.data(tensor.info.name).reshape(tensor.rows, -1)
    for first, rows in _runs(tensor):
        part, weights = data[first : first + rows], importance.weights(tensor.info, first)
        values = search.values(source, part)
        squares += _squares(values, weights)
        for i, plan in enumerate(plans[:-1]):
            errors[i] += _squares(search.values(plan.format, search(plan, first, part, weights)) - values, weights)
    relative = errors / squares if squares else errors
    rungs = [Rung(p, align_up(p.nbytes, alignment), float(e)) for p, e in zip(plans, relative, strict=True)]
    return Ladder(group, _hull(rungs))


def _runs(tensor: TensorPlan) -> list[tuple[int, int]]:
    """First row and rows of each run; no run crosses from one stacked matrix to the next."""
    cols, each = tensor.info.shape[-1], tensor.info.shape[-2]
    if tensor.rows * cols <= _SAMPLE:
        return [(first, each) for first in range(0, tensor.rows, each)]
    rows = min(max(1, _SAMPLE // _RUNS // cols), each)
    starts = np.linspace(0, tensor.rows - rows, _RUNS).astype(int).tolist()
    return [(first - max(0, first % each + rows - each), rows) for first in starts]


def _squares(values: NDArray[np.float32], weights: NDArray[np.float32] | None) -> float:
    columns = np.einsum("ij,ij->j", values, values, dtype=np.float64)
    return float(columns.sum() if weights is None else columns @ weights)


def _hull(rungs: Sequence[Rung]) -> tuple[Rung, ...]:
    """The rungs from which every step to the next gains something, and less for each byte than the step before."""
    kept: list[Rung] = []
    for rung in sorted(rungs, key=lambda rung: (rung.nbytes, rung.error)):
        if kept and rung.error >= kept[-1].error:
            continue
        while len(kept) > 1 and _gain(kept[-2], kept[-1]) <= _gain(kept[-1], rung):
            kept.pop()
        kept.append(rung)
    return tuple(kept)


def _gain(low: Rung, high: Rung) -> float:
    return (low.error - high.error) / (high.nbytes - low.nbytes)


def loss_of(ladders: Sequence[Ladder], chosen: Sequence[int], sensitivity: Mapping[str, float]) -> float:
    """The sum of errors times sensitivities."""
    return sum(sensitivity[x.group] * x.rungs[i].error for x, i in zip(ladders, chosen, strict=True))


def _steps(ladders: Sequence[Ladder], sensitivity: Mapping[str, float]) -> list[tuple[int, int]]:
    """Ladder and rung of every step up, the greatest gain for each byte first; of each ladder they are in order."""
    steps = [
        (-sensitivity[ladder.group] * _gain(ladder.rungs[k - 1], ladder.rungs[k]), k, i)
        for i, ladder in enumerate(ladders)
        for k in range(1, len(ladder.rungs))
    ]
    return [(i, k) for _, k, i in sorted(steps)]


def least_loss(ladders: Sequence[Ladder], sensitivity: Mapping[str, float], nbytes: int) -> tuple[int, ...]:
    """The rung of each ladder so that their bytes are at most ``nbytes``; the lowest ones where even those are more.

    More bytes never give more loss: of two limits, take the first step that only the greater one allows. It gains as
    much for each byte as any step that follows, and is larger than all that the smaller limit has left.
    """
    chosen = [0] * len(ladders)
    left = nbytes - sum(ladder.rungs[0].nbytes for ladder in ladders)
    for i, k in _steps(ladders, sensitivity):
        price = ladders[i].rungs[k].nbytes - ladders[i].rungs[k - 1].nbytes
        if chosen[i] == k - 1 and price <= left:
            chosen[i], left = k, left - price
    return tuple(chosen)


def least_size(ladders: Sequence[Ladder], sensitivity: Mapping[str, float], loss: float) -> tuple[int, ...]:
    """The rung of each ladder so that their loss is at most ``loss``; the highest ones where even those have more."""
    chosen = [0] * len(ladders)
    taken = []
    for i, k in _steps(ladders, sensitivity):
        if loss_of(ladders, chosen, sensitivity) <= loss:
            break
        chosen[i] = k
        taken.append((i, k))
    for i, k in reversed(taken):  # the last step may have gained more than was missing
        if chosen[i] == k:
            chosen[i] = k - 1
            if loss_of(ladders, chosen, sensitivity) > loss:
                chosen[i] = k
    return tuple(chosen)
