"""The block of every format as a NumPy structured dtype: the one description of each layout.

Layouts are ggml's (`ggml-common.h`). All numbers are little-endian and nothing is padded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .table import Format

__all__ = ["BLOCKS", "as_blocks", "byteswap"]

_LAYOUTS: dict[str, Any] = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F64": "<f8",
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "Q4_0": [("d", "<f2"), ("qs", "u1", (16,))],
    "Q4_1": [("d", "<f2"), ("m", "<f2"), ("qs", "u1", (16,))],
    "Q5_0": [("d", "<f2"), ("qh", "<u4"), ("qs", "u1", (16,))],
    "Q5_1": [("d", "<f2"), ("m", "<f2"), ("qh", "<u4"), ("qs", "u1", (16,))],
    "Q8_0": [("d", "<f2"), ("qs", "i1", (32,))],
    "Q8_1": [("d", "<f2"), ("s", "<f2"), ("qs", "i1", (32,))],
    "Q2_K": [("scales", "u1", (16,)), ("qs", "u1", (2, 32)), ("d", "<f2"), ("dmin", "<f2")],
    "Q3_K": [
        ("hmask", "u1", (32,)),
        ("qs", "u1", (2, 32)),
        ("scales_l", "u1", (8,)),
        ("scales_h", "u1", (4,)),
        ("d", "<f2"),
    ],
    "Q4_K": [("d", "<f2"), ("dmin", "<f2"), ("scales", "u1", (3, 4)), ("qs", "u1", (4, 32))],
    "Q5_K": [
        ("d", "<f2"),
        ("dmin", "<f2"),
        ("scales", "u1", (3, 4)),
        ("qh", "u1", (32,)),
        ("qs", "u1", (4, 32)),
    ],
    "Q6_K": [("ql", "u1", (2, 64)), ("qh", "u1", (2, 32)), ("scales", "i1", (16,)), ("d", "<f2")],
    "Q8_K": [("d", "<f4"), ("qs", "i1", (256,)), ("bsums", "<i2", (16,))],
    "IQ4_NL": [("d", "<f2"), ("qs", "u1", (16,))],
    "IQ4_XS": [("d", "<f2"), ("scales_h", "<u2"), ("scales_l", "u1", (4,)), ("qs", "u1", (8, 16))],
    "IQ1_S": [("d", "<f2"), ("qs", "u1", (8, 4)), ("qh", "<u2", (8,))],
    "IQ1_M": [("qs", "u1", (32,)), ("qh", "u1", (16,)), ("scales", "<u2", (4,))],
    "IQ2_XXS": [("d", "<f2"), ("groups", [("qs", "u1", (4,)), ("signs", "<u4")], (8,))],
    "IQ2_XS": [("d", "<f2"), ("qs", "<u2", (32,)), ("scales", "u1", (8,))],
    "IQ2_S": [
        ("d", "<f2"),
        ("qs", "u1", (32,)),
        ("signs", "u1", (32,)),
        ("qh", "u1", (8,)),
        ("scales", "u1", (8,)),
    ],
    "IQ3_XXS": [("d", "<f2"), ("qs", "u1", (64,)), ("signs", "<u4", (8,))],
    "IQ3_S": [
        ("d", "<f2"),
        ("qs", "u1", (64,)),
        ("qh", "u1", (8,)),
        ("signs", "u1", (32,)),
        ("scales", "u1", (4,)),
    ],
    "TQ1_0": [("qs32", "u1", (32,)), ("qs16", "u1", (16,)), ("qh", "u1", (4,)), ("d", "<f2")],
    "TQ2_0": [("qs", "u1", (2, 32)), ("d", "<f2")],
    "MXFP4": [("e", "u1"), ("qs", "u1", (16,))],
    "NVFP4": [("d", "u1", (4,)), ("qs", "u1", (4, 8))],
    "Q1_0": [("d", "<f2"), ("qs", "u1", (16,))],
    "Q2_0": [("d", "<f2"), ("qs", "u1", (16,))],
}

BLOCKS: dict[str, np.dtype[Any]] = {name: np.dtype(layout) for name, layout in _LAYOUTS.items()}


def as_blocks(fmt: Format, data: NDArray[np.uint8]) -> NDArray[Any]:
    """uint8 (..., row_bytes) as blocks (..., row_bytes / block_bytes) of ``BLOCKS[fmt.name]``.

    Raises TypeError for data of another dtype and ValueError where rows are not whole blocks.
    """
    if data.dtype != np.uint8:
        raise TypeError(f"{fmt.name}: expected bytes as a uint8 array, got {data.dtype}")
    if data.ndim == 0 or data.shape[-1] % fmt.block_bytes:
        raise ValueError(
            f"{fmt.name}: expected rows of whole blocks of {fmt.block_bytes} bytes, got shape {data.shape}"
        )
    return np.ascontiguousarray(data).view(BLOCKS[fmt.name])


def byteswap(fmt: Format, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blocks as a big-endian machine stores them, uint8 (..., row_bytes), as little-endian blocks.

    Every number of two or more bytes is turned round, bytes that hold bit fields stay. The same call turns
    little-endian into big-endian. Raises as :func:`as_blocks`.
    """
    return as_blocks(fmt, data).byteswap().view(np.uint8).reshape(data.shape)
