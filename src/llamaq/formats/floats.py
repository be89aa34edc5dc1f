"""F32, F16 and BF16, and the float arithmetic that the encoders share.

Functions take and give one line per block: structured blocks of shape (n,), values of shape (n, block).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Blocks",
    "Values",
    "decode_bf16",
    "decode_float",
    "encode_bf16",
    "encode_f16",
    "encode_f32",
    "extreme",
    "half",
    "ratio",
]

Blocks = NDArray[Any]
Values = NDArray[np.float32]


def decode_float(blocks: Blocks) -> Values:
    """F32 and F16: exact."""
    return blocks.astype(np.float32)[:, None]


def decode_bf16(blocks: Blocks) -> Values:
    """BF16 is the upper half of a binary32."""
    return (blocks.astype(np.uint32) << 16).view(np.float32)[:, None]


def encode_f32(x: Values) -> Blocks:
    """The values as they are."""
    return x[:, 0].astype("<f4")


def encode_f16(x: Values) -> Blocks:
    """Nearest binary16, ties to even; infinite beyond 65520."""
    return x[:, 0].astype("<f2")


def encode_bf16(x: Values) -> Blocks:
    """Nearest bfloat16, ties to even; a NaN stays one, made quiet."""
    bits = x[:, 0].view(np.uint32)
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    nearest = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(is_nan, quiet, nearest).astype("<u2")


def half(x: Values) -> NDArray[np.float16]:
    """Scales as binary16; ValueError where one would be infinite and so spoil its whole block."""
    result = x.astype(np.float16)
    if not np.isfinite(result).all():
        raise ValueError(
            f"a block needs the scale {np.abs(x).max():g}, beyond binary16's 65504; store this tensor as F32 or BF16"
        )
    return result


def ratio(x: Values, y: Values) -> Values:
    """``x / y``, and 0 where ``y`` is 0."""
    divisor: Values = np.where(y == 0, np.float32(np.inf), y)
    return x / divisor


def extreme(x: Values) -> Values:
    """The first value of greatest magnitude along the last axis, with its sign: (..., n) to (...)."""
    index = np.abs(x).argmax(axis=-1)[..., None]
    result: Values = np.take_along_axis(x, index, axis=-1)[..., 0]
    return result
