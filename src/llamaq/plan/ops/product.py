"""What ops with matrix products share: ``norm(x) @ W.T`` (+ bias) for matrices of the same columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.formats import Unpacked
from llamaq.plan.arithmetic import fma32, fma_dot, quantize_rows
from llamaq.plan.op import F32, Run
from llamaq.plan.operands import Norm, Value, Weight
from llamaq.plan.ops.norm import normed
from llamaq.plan.shapes import Shapes

__all__ = ["linear", "product_shapes", "products", "quantized_linear"]


def product_shapes(
    shapes: Shapes, x: Value, weights: Sequence[Weight], biases: Sequence[Weight | None], norm: Norm | None
) -> tuple[int, ...]:
    """Rows of each matrix, once all fit ``x``."""
    shapes.check_norm(norm, x)
    found = []
    for weight, bias in zip(weights, biases, strict=True):
        rows, cols = shapes.matrix(weight)
        if cols != x.cols:
            raise ModelError(f"tensor {weight.name!r}: expected {x.cols} columns ({x.source}), got {cols}")
        if bias is not None:
            shapes.check_vector(bias, rows)
        found.append(rows)
    return tuple(found)


def products(
    run: Run, x: F32, weights: Sequence[Weight], biases: Sequence[Weight | None], norm: Norm | None
) -> list[F32]:
    """The products with each matrix, and its bias added."""
    if norm is not None:
        x = normed(norm, x, run.vector)
    with np.errstate(all="ignore"):
        return [
            y if bias is None else y + run.vector(bias)
            for y, bias in ((run.multiply(weight, x), bias) for weight, bias in zip(weights, biases, strict=True))
        ]


def linear(weight: Unpacked | F32, x: F32) -> F32:
    """``x @ weight.T``: weight (outputs, k), x (rows, k), result (rows, outputs)."""
    if isinstance(weight, Unpacked):
        return quantized_linear(weight, *quantize_rows(x))
    return fma_dot(weight, x)


def quantized_linear(weight: Unpacked, a: NDArray[np.int32], scale: F32) -> F32:
    """Blocks of 32 in ascending order: exact integer sums, then fma with the scales.

    ``a`` (rows, blocks, 32) and ``scale`` (rows, blocks) are those of ``quantize_rows``.
    """
    halves = a.reshape(*a.shape[:-1], 2, 16).astype(np.float64)
    outputs, blocks = weight.scale.shape
    q = weight.q.reshape(outputs, blocks, 2, 16).astype(np.float64)
    acc = np.zeros((len(a), outputs), np.float32)
    with np.errstate(all="ignore"):
        for b in range(blocks):
            d = scale[:, b, None]
            if weight.minimum is not None:
                sums = halves[:, b].sum(-1)
                if weight.sub_min is None:
                    total = sums.sum(-1, keepdims=True)
                else:
                    total = sums @ weight.sub_min[:, 2 * b : 2 * b + 2].T
                acc = fma32(weight.minimum[:, b], d * total.astype(np.float32), acc)
            # Far below 2^53, or few bits of a scale: these float64 products and sums are exact in any order.
            parts = [halves[:, b, h] @ q[:, b, h].T for h in (0, 1)]
            if weight.sub_scale is not None:
                parts = [part * weight.sub_scale[:, 2 * b + h] for h, part in enumerate(parts)]
            acc = fma32((parts[0] + parts[1]).astype(np.float32), weight.scale[:, b] * d, acc)
    return acc
