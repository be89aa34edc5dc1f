"""Formats of one and two bits: TQ1_0, TQ2_0, Q1_0 and Q2_0.

Layouts and reference encoding are ggml's (`ggml-common.h`, `ggml-quants.c`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import join, split
from .blocks import BLOCKS
from .floats import Blocks, Values, half
from .legacy import reciprocal, round_half_away
from .unpacked import Unpacked

__all__ = ["encode_tq1_0", "encode_tq2_0", "unpack_q1_0", "unpack_q2_0", "unpack_tq1_0", "unpack_tq2_0"]

_POWERS = np.array([1, 3, 9, 27, 81], dtype=np.uint8)[:, None]

# Each row is a field, its bytes, and ternary digits a byte: together 32 * 5 + 16 * 5 + 4 * 4 = 256 digits.
_TQ1_FIELDS = (("qs32", 32, 5), ("qs16", 16, 5), ("qh", 4, 4))


def _scaled(blocks: Blocks, q: NDArray[np.int8]) -> Unpacked:
    """One scale for the whole block, repeated for each 32 of it."""
    return Unpacked(q, np.repeat(blocks["d"].astype(np.float32)[:, None], q.shape[1] // 32, axis=1))


def unpack_tq1_0(blocks: Blocks) -> Unpacked:
    """``d * (t - 1)``; a byte is the fraction 0.ttttt in base 3, in units of 1/256, rounded up.

    Multiplying by a power of three modulo 256 leaves the digits behind it; times 3 and over 256 is the next.
    """
    parts = [
        ((blocks[field][:, None, :] * _POWERS[:digits]).astype(np.uint16) * 3 >> 8).reshape(len(blocks), -1)
        for field, _, digits in _TQ1_FIELDS
    ]
    return _scaled(blocks, np.concatenate(parts, axis=-1).astype(np.int8) - np.int8(1))


def unpack_tq2_0(blocks: Blocks) -> Unpacked:
    """``d * (q - 1)``"""
    return _scaled(blocks, split(blocks["qs"], 2).reshape(-1, 256).view(np.int8) - np.int8(1))


def unpack_q1_0(blocks: Blocks) -> Unpacked:
    """``d`` where the bit is set, else ``-d``; element ``i`` is bit ``i % 8`` of byte ``i / 8``."""
    bits = split(blocks["qs"][..., None], 1).reshape(-1, 128).view(np.int8)
    return _scaled(blocks, np.int8(2) * bits - np.int8(1))


def unpack_q2_0(blocks: Blocks) -> Unpacked:
    """``d * (q - 1)``; the four fields of a byte are neighbours."""
    return _scaled(blocks, split(blocks["qs"][..., None], 2).reshape(-1, 64).view(np.int8) - np.int8(1))


def _ternary(name: str, x: Values) -> tuple[Blocks, NDArray[np.uint8]]:
    d = np.abs(x).max(axis=-1, keepdims=True)
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["d"] = half(d[:, 0])
    return blocks, (round_half_away(x * reciprocal(d)).astype(np.int8) + np.int8(1)).view(np.uint8)


def encode_tq1_0(name: str, x: Values) -> Blocks:
    """Greatest magnitude as scale, digits -1, 0 and 1."""
    blocks, q = _ternary(name, x)
    start = 0
    for field, count, digits in _TQ1_FIELDS:
        part = q[:, start : start + count * digits].reshape(len(q), digits, count)
        number = (part * _POWERS[4 - np.arange(digits)]).sum(axis=1, dtype=np.uint16)
        blocks[field] = (number * 256 + 242) // 243
        start += count * digits
    return blocks


def encode_tq2_0(name: str, x: Values) -> Blocks:
    """Greatest magnitude as scale, integers -1, 0 and 1."""
    blocks, q = _ternary(name, x)
    blocks["qs"] = join(q.reshape(-1, 2, 4, 32), 2)
    return blocks
