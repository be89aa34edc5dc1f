"""MXFP4 and NVFP4: four-bit floats (E2M1) under an eight-bit scale.

Layouts are ggml's (`ggml-common.h`); the number formats are those of the OCP Microscaling Formats
specification 1.0. Levels are doubled to be integers, scales are halved to make up for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import split
from .blocks import BLOCKS
from .floats import Blocks, Values
from .legacy import fill_nibbles, nibbles
from .unpacked import Unpacked

__all__ = ["LEVELS", "encode_mxfp4", "unpack_mxfp4", "unpack_nvfp4"]

LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.int8)


def _half_e8m0(e: NDArray[np.uint8]) -> Values:
    """``2 ** (e - 128)``, the two least of which are subnormal."""
    bits = np.where(e < 2, 0x200000 << np.minimum(e, 1).astype(np.uint32), (e.astype(np.uint32) - 1) << 23)
    return bits.astype(np.uint32).view(np.float32)


def _half_ue4m3(x: NDArray[np.uint8]) -> Values:
    """Half of an unsigned E4M3 with bias 7; its NaN (0x7F) counts as 0, and the top bit is ignored."""
    exponent = ((x >> np.uint8(3)) & np.uint8(15)).astype(np.int32)
    mantissa = (x & np.uint8(7)).astype(np.float32)
    normal = np.ldexp(np.float32(8) + mantissa, exponent - 11)
    value = np.where(exponent == 0, mantissa * np.float32(2.0**-10), normal)
    return np.where(x == 0x7F, np.float32(0), value)


def unpack_mxfp4(blocks: Blocks) -> Unpacked:
    """``2 ** (e - 128) * level``"""
    return Unpacked(LEVELS[nibbles(blocks)], _half_e8m0(blocks["e"])[:, None])


def unpack_nvfp4(blocks: Blocks) -> Unpacked:
    """Four sub-blocks of 16 with a scale each; low halves of their eight bytes first."""
    levels = LEVELS[split(blocks["qs"], 4)].reshape(-1, 64)
    return Unpacked(levels, np.ones((len(blocks), 2), np.float32), sub_scale=_half_ue4m3(blocks["d"]))


def encode_mxfp4(name: str, x: Values) -> Blocks:
    """Exponent of the greatest magnitude less two; of equally near levels the first one."""
    top = np.abs(x).max(axis=-1)
    exponent = np.floor(np.log2(np.where(top > 0, top, np.float32(1)))) + np.float32(125)
    e = np.where(top > 0, np.maximum(exponent, 0), 0).astype(np.uint8)
    d = _half_e8m0(e)[:, None]
    best = np.abs(x)
    q = np.zeros(x.shape, np.uint8)
    for index in range(1, 16):
        error = np.abs(d * np.float32(LEVELS[index]) - x)
        nearer = error < best
        q[nearer], best[nearer] = index, error[nearer]
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["e"] = e
    blocks["qs"] = fill_nibbles(q)
    return blocks
