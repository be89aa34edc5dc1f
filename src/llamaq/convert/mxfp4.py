"""Weights in MXFP4 as a checkpoint has them, blocks and scales apart, made into GGUF's blocks with the same values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.rules import Rule, Source
from llamaq.convert.views import NewTensor, View

__all__ = ["blocks_of", "read_blocks"]

_BLOCK = 32  # weights, two in a byte


def blocks_of(*names: str) -> Rule:
    """A stack of quantized matrices, or several whose rows alternate: bytes (experts, rows, blocks, 16).

    A tensor whose name ends with "_scales" instead of "_blocks" has their exponents.
    """

    def rule(source: Source) -> list[NewTensor]:
        (old,), shape = source.names, source.shape
        if len(shape) != 4 or shape[3] != _BLOCK // 2 or shape[1] % len(names):
            raise source.error(f"blocks of {_BLOCK // 2} bytes")
        cols = range(shape[2] * _BLOCK)
        return [
            source.new(
                name,
                *(View(old, range(i, shape[1], len(names)), cols, (expert,)) for expert in range(shape[0])),
                stacked=True,
                packed=True,
            )
            for i, name in enumerate(names)
        ]

    return rule


def read_blocks(checkpoint: Checkpoint, view: View, span: range) -> NDArray[np.uint8]:
    """Rows of a view as GGUF has them: of each block the exponent, then weight i beside weight i + 16.

    Raises ModelError where the exponents do not fit.
    """
    (expert, rows), name = (*view.index, view.rows[span.start : span.stop]), view.name
    blocks = checkpoint.numbers(name, expert, rows)
    scales = checkpoint.numbers(name.removesuffix("_blocks") + "_scales", expert, rows, like=blocks.shape[:-1])
    values = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(*blocks.shape[:-1], 2, _BLOCK // 2)
    made = np.concatenate((scales[..., None], values[..., 0, :] | values[..., 1, :] << 4), axis=-1)
    return np.ascontiguousarray(made.reshape(len(rows), -1))
