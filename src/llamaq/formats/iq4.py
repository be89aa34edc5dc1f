"""IQ4_NL and IQ4_XS: four bits choose one of sixteen unevenly spaced int8 values.

Layouts and codebook are ggml's (`ggml-common.h`, ``kvalues_iq4nl``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import join, split
from .blocks import BLOCKS
from .floats import Blocks, Values, extreme, half, ratio
from .kquants import signed_scales
from .legacy import fill_nibbles, nibbles
from .unpacked import Unpacked

__all__ = ["CODEBOOK", "encode_iq4_nl", "encode_iq4_xs", "unpack_iq4_nl", "unpack_iq4_xs"]

CODEBOOK = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8)

_MIDPOINTS = (CODEBOOK[1:].astype(np.float32) + CODEBOOK[:-1]) / np.float32(2)


def unpack_iq4_nl(blocks: Blocks) -> Unpacked:
    """``d * codebook[q]``"""
    return Unpacked(CODEBOOK[nibbles(blocks)], blocks["d"].astype(np.float32)[:, None])


def unpack_iq4_xs(blocks: Blocks) -> Unpacked:
    """``(d * (ls - 32)) * codebook[q]``; sub-block j has its scale's upper two bits at 2j of ``scales_h``."""
    low = split(blocks["scales_l"][..., None], 4).reshape(-1, 8)
    high = (blocks["scales_h"][:, None] >> np.arange(0, 16, 2, dtype=np.uint16)) & np.uint16(3)
    ls = (low | (high.astype(np.uint8) << np.uint8(4))).view(np.int8) - np.int8(32)
    q = split(blocks["qs"], 4).reshape(-1, 256)
    return Unpacked(CODEBOOK[q], blocks["d"].astype(np.float32)[:, None] * ls)


def _nearest(x: Values, scale: Values) -> NDArray[np.uint8]:
    """Index of the codebook's value nearest to ``x / scale``."""
    return np.searchsorted(_MIDPOINTS, ratio(x, scale)).astype(np.uint8)


def encode_iq4_nl(name: str, x: Values) -> Blocks:
    """The value of greatest magnitude becomes -127."""
    d = half(extreme(x) / np.float32(-127))
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["d"] = d
    blocks["qs"] = fill_nibbles(_nearest(x, d.astype(np.float32)[:, None]))
    return blocks


def encode_iq4_xs(name: str, x: Values) -> Blocks:
    """Each 32 elements: their value of greatest magnitude becomes -127."""
    groups = x.reshape(len(x), 8, 32)
    d, integers = signed_scales(extreme(groups) / np.float32(-127), 32)
    scale = d.astype(np.float32)[:, None] * integers
    ls = (integers + np.int8(32)).view(np.uint8)
    high = (ls >> np.uint8(4)).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16)
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["d"] = d
    blocks["scales_h"] = np.bitwise_or.reduce(high, axis=-1)
    blocks["scales_l"] = join((ls & np.uint8(15)).reshape(-1, 4, 2, 1), 4)[..., 0]
    blocks["qs"] = join(_nearest(groups, scale[..., None]).reshape(-1, 8, 2, 16), 4)
    return blocks
