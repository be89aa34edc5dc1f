"""What ops with experts share: each row times the matrices of the experts that it goes to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.plan.op import F32, Run
from llamaq.plan.operands import Value, Weight
from llamaq.plan.shapes import Shapes

__all__ = ["expert_products", "expert_shapes", "split_routing"]


def expert_shapes(
    shapes: Shapes, cols: int, source: str, routing: Value, used: int, stacks: Sequence[Weight],
    biases: Sequence[Weight | None],
) -> int:  # fmt: skip
    """Rows of each matrix, once all stacks fit the input of so many columns and each other."""
    if routing.cols != 2 * used:
        raise ValueError(f"the routing has {routing.cols} columns, a number and a weight for {used} experts are needed")
    first = shapes.stack(stacks[0])
    for stack, bias in zip(stacks, biases, strict=True):
        shape = shapes.stack(stack)
        if shape[2] != cols:
            raise ModelError(f"tensor {stack.name!r}: expected {cols} columns ({source}), got {shape[2]}")
        if shape != first:
            raise ModelError(f"tensor {stack.name!r}: expected {first} as {stacks[0].name!r} has, got {shape}")
        if used > shape[0]:
            raise ModelError(f"tensor {stack.name!r}: expected at least {used} experts, got {shape[0]}")
        if bias is not None:
            shapes.check_biases(bias, shape[0], shape[1])
    return first[1]


def split_routing(routing: F32) -> tuple[NDArray[np.int64], F32]:
    """Numbers of the experts and their weights, (rows, used) each."""
    used = routing.shape[-1] // 2
    return routing[:, :used].astype(np.int64), routing[:, used:]


def expert_products(run: Run, stack: Weight, bias: Weight | None, x: F32, experts: NDArray[np.int64]) -> F32:
    """``x`` (rows, used, columns) times the matrix of each row's experts, and its bias: (rows, used, outputs)."""
    found: dict[int, F32] = {}
    sequences = np.repeat(run.sequences(len(x))[:, None], experts.shape[1], axis=1)
    for expert in np.unique(experts).tolist():
        found[expert] = run.multiply(stack, x[experts == expert], expert, sequences[experts == expert])
    y = np.empty((*experts.shape, next(iter(found.values())).shape[-1]), np.float32)
    for expert, rows in found.items():
        y[experts == expert] = rows
    with np.errstate(all="ignore"):
        return y if bias is None else y + run.vector(bias)[experts]
