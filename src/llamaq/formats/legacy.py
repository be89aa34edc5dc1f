"""Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 elements.

Layouts and reference encoding are ggml's (`ggml-quants.c`). Element ``i < 16`` lies in the low half of byte
``i``, element ``i + 16`` in its high half; bit ``i`` of ``qh`` is the fifth bit of element ``i``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import join, split
from .blocks import BLOCKS
from .floats import Blocks, Values, extreme, half
from .unpacked import Unpacked

__all__ = [
    "encode_affine",
    "encode_q8_0",
    "encode_symmetric",
    "fill_nibbles",
    "nibbles",
    "reciprocal",
    "round_half_away",
    "unpack_q4_0",
    "unpack_q4_1",
    "unpack_q5_0",
    "unpack_q5_1",
    "unpack_q8_0",
]


def nibbles(blocks: Blocks) -> NDArray[np.uint8]:
    """The 32 four-bit fields of ``qs``, (n, 32)."""
    return split(blocks["qs"], 4).reshape(len(blocks), 32)


def fill_nibbles(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 32) fields, of which the low four bits count, as the 16 bytes of ``qs``."""
    return join((q & np.uint8(15)).reshape(len(q), 2, 16), 4)


def _five_bits(blocks: Blocks) -> NDArray[np.uint8]:
    high = (blocks["qh"][:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return nibbles(blocks) | (high.astype(np.uint8) << np.uint8(4))


def _column(x: NDArray[np.float16]) -> Values:
    return x.astype(np.float32)[:, None]


def unpack_q4_0(blocks: Blocks) -> Unpacked:
    """``d * (q - 8)``"""
    return Unpacked(nibbles(blocks).view(np.int8) - np.int8(8), _column(blocks["d"]))


def unpack_q4_1(blocks: Blocks) -> Unpacked:
    """``d * q + m``"""
    return Unpacked(nibbles(blocks).view(np.int8), _column(blocks["d"]), _column(blocks["m"]))


def unpack_q5_0(blocks: Blocks) -> Unpacked:
    """``d * (q - 16)``"""
    return Unpacked(_five_bits(blocks).view(np.int8) - np.int8(16), _column(blocks["d"]))


def unpack_q5_1(blocks: Blocks) -> Unpacked:
    """``d * q + m``"""
    return Unpacked(_five_bits(blocks).view(np.int8), _column(blocks["d"]), _column(blocks["m"]))


def unpack_q8_0(blocks: Blocks) -> Unpacked:
    """``d * q``"""
    return Unpacked(np.ascontiguousarray(blocks["qs"]), _column(blocks["d"]))


def reciprocal(d: Values) -> Values:
    """``1 / d`` and 0 where that is not finite: there ``d`` becomes 0 as binary16, whatever the integers."""
    inverse = np.float32(1) / d
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def round_half_away(x: Values) -> Values:
    """Nearest integer, halves away from zero, as C's ``roundf``."""
    whole = np.trunc(x)
    result: Values = whole + np.trunc(2 * (x - whole))
    return result


def _fill(name: str, q: NDArray[np.uint8]) -> Blocks:
    blocks = np.zeros(len(q), BLOCKS[name])
    blocks["qs"] = fill_nibbles(q)
    if name.startswith("Q5"):
        fifth = (q >> np.uint8(4)).astype(np.uint32) << np.arange(32, dtype=np.uint32)
        blocks["qh"] = np.bitwise_or.reduce(fifth, axis=-1)
    return blocks


def encode_symmetric(name: str, x: Values) -> Blocks:
    """Q4_0 and Q5_0: the value of greatest magnitude becomes the lowest integer, -8 or -16."""
    zero = np.float32(8 if name == "Q4_0" else 16)
    d = (extreme(x) / -zero)[:, None]
    q = np.trunc(x * reciprocal(d) + (zero + np.float32(0.5)))
    blocks = _fill(name, np.clip(q, 0, 2 * zero - 1).astype(np.uint8))
    blocks["d"] = half(d[:, 0])
    return blocks


def encode_affine(name: str, x: Values) -> Blocks:
    """Q4_1 and Q5_1: the integers 0 and 15 or 31 stand for the least and the greatest value."""
    top = np.float32(15 if name == "Q4_1" else 31)
    low = x.min(axis=-1, keepdims=True)
    d = (x.max(axis=-1, keepdims=True) - low) / top
    q = np.trunc((x - low) * reciprocal(d) + np.float32(0.5))
    blocks = _fill(name, np.clip(q, 0, top).astype(np.uint8))
    blocks["d"], blocks["m"] = half(d[:, 0]), half(low[:, 0])
    return blocks


def encode_q8_0(name: str, x: Values) -> Blocks:
    """Greatest magnitude over 127; halves are rounded away from zero."""
    d = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["qs"] = round_half_away(x * reciprocal(d)).astype(np.int8)
    blocks["d"] = half(d[:, 0])
    return blocks
