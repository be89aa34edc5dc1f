"""The IQ1, IQ2 and IQ3 families (decode only): vectors of a codebook, signs and scales.

Layouts are ggml's (`ggml-common.h`, `ggml-quants.c`). Every product below is exact in binary32, because a
scale has 11 bits, its factor at most 5 and a codebook's level at most 6.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .bits import split
from .floats import Blocks, Values
from .grids import GRIDS

__all__ = [
    "decode_iq1_m",
    "decode_iq1_s",
    "decode_iq2_s",
    "decode_iq2_xs",
    "decode_iq2_xxs",
    "decode_iq3_s",
    "decode_iq3_xxs",
]


@cache
def _grid(name: str) -> NDArray[np.int8]:
    return np.array(GRIDS[name].rows(), dtype=np.int8)


def _signs(bits: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(..., k) bytes to (..., k, 8) factors 1 or -1, a set bit being -1."""
    on = split(bits[..., None], 1)[..., 0].view(np.int8)
    return np.int8(1) - np.int8(2) * on


@cache
def _even_signs() -> NDArray[np.int8]:
    """The 128 patterns of eight signs whose minus signs are even in number: seven bits say them all."""
    low = np.arange(128, dtype=np.uint8)
    parity = np.bitwise_xor.reduce(split(low[:, None], 1)[..., 0], axis=-1)
    return _signs(low | (parity << np.uint8(7)))


def _scales(packed: NDArray[np.uint8]) -> Values:
    """(n, k) bytes of two four-bit scales each, (n, 2k)."""
    return split(packed[..., None], 4).reshape(len(packed), -1).astype(np.float32)


def _apply(scale: Values, vectors: NDArray[np.int8], signs: NDArray[np.int8]) -> Values:
    """Scales (n, k), codebook vectors and signs (n, 256 elements in any shape) to values (n, 256)."""
    n, k = scale.shape
    signed = vectors.reshape(n, k, -1) * signs.reshape(n, k, -1)
    return (scale[..., None] * signed).reshape(n, 256)


def _d(blocks: Blocks) -> Values:
    return blocks["d"].astype(np.float32)[:, None]


def _scale_and_signs(words: NDArray[np.uint32]) -> tuple[Values, NDArray[np.int8]]:
    """32-bit words of a scale (upper four bits) and four sign patterns of seven bits."""
    patterns = (words[..., None] >> np.arange(0, 28, 7, dtype=np.uint32)) & np.uint32(127)
    return (words >> np.uint32(28)).astype(np.float32), _even_signs()[patterns]


def decode_iq2_xxs(blocks: Blocks) -> Values:
    """32 elements: four vectors of eight, one scale ``d * (0.5 + s) / 4``."""
    s, signs = _scale_and_signs(blocks["groups"]["signs"])
    scale = _d(blocks) * (np.float32(0.5) + s) * np.float32(0.25)
    return _apply(scale, _grid("IQ2_XXS")[blocks["groups"]["qs"]], signs)


def decode_iq2_xs(blocks: Blocks) -> Values:
    """A 16-bit word per eight elements: nine bits of vector, seven of signs; a scale per 16 elements."""
    qs = blocks["qs"]
    scale = _d(blocks) * (np.float32(0.5) + _scales(blocks["scales"])) * np.float32(0.25)
    return _apply(scale, _grid("IQ2_XS")[qs & np.uint16(511)], _even_signs()[qs >> np.uint16(9)])


def decode_iq2_s(blocks: Blocks) -> Values:
    """Ten bits of vector (two of them in ``qh``) and eight signs per eight elements; a scale per 16."""
    high = split(blocks["qh"][..., None], 2).reshape(-1, 32)
    index = blocks["qs"] | (high.astype(np.uint16) << np.uint16(8))
    scale = _d(blocks) * (np.float32(0.5) + _scales(blocks["scales"])) * np.float32(0.25)
    return _apply(scale, _grid("IQ2_S")[index], _signs(blocks["signs"]))


def decode_iq3_xxs(blocks: Blocks) -> Values:
    """32 elements: eight vectors of four, one scale ``d * (0.5 + s) / 2``."""
    s, signs = _scale_and_signs(blocks["signs"])
    scale = _d(blocks) * (np.float32(0.5) + s) * np.float32(0.5)
    return _apply(scale, _grid("IQ3_XXS")[blocks["qs"]], signs)


def decode_iq3_s(blocks: Blocks) -> Values:
    """Nine bits of vector (one of them in ``qh``) per four elements; a scale ``d * (1 + 2s)`` per 32."""
    high = split(blocks["qh"][..., None], 1).reshape(-1, 64)
    index = blocks["qs"] | (high.astype(np.uint16) << np.uint16(8))
    scale = _d(blocks) * (np.float32(1) + np.float32(2) * _scales(blocks["scales"]))
    return _apply(scale, _grid("IQ3_S")[index], _signs(blocks["signs"]))


def _shifted(scale: Values, index: NDArray[np.uint16], negative: NDArray[np.bool_]) -> Values:
    """``scale * (vector + 1/8)``, or minus 1/8: scale, index and sign per eight elements, (n, 32)."""
    shift = np.where(negative, np.float32(-0.125), np.float32(0.125))
    return (scale[..., None] * (_grid("IQ1_S")[index] + shift[..., None])).reshape(-1, 256)


def decode_iq1_s(blocks: Blocks) -> Values:
    """``qh`` per 32 elements: three more bits for each of four vectors, a scale, the shift's sign."""
    qh = blocks["qh"]
    high = (qh[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)
    index = (blocks["qs"] | (high << np.uint16(8))).reshape(-1, 32)
    s = ((qh >> np.uint16(12)) & np.uint16(7)).astype(np.float32)
    scale = _d(blocks) * (np.float32(2) * s + np.float32(1))
    return _shifted(np.repeat(scale, 4, axis=1), index, np.repeat(qh >= 0x8000, 4, axis=1))


def decode_iq1_m(blocks: Blocks) -> Values:
    """``qh`` per eight elements: three more bits of vector and the shift's sign; a scale per 16 elements.

    ``d`` is spread over the upper four bits of the four words of ``scales``, lowest first.
    """
    words = blocks["scales"].astype(np.uint16)
    parts = (words >> np.uint16(12)) << np.arange(0, 16, 4, dtype=np.uint16)
    d = np.bitwise_or.reduce(parts, axis=-1).view(np.float16).astype(np.float32)[:, None]
    s = ((words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)).reshape(-1, 16)
    high = split(blocks["qh"][..., None], 4).reshape(-1, 32)
    index = blocks["qs"] | ((high & np.uint8(7)).astype(np.uint16) << np.uint16(8))
    scale = d * (np.float32(2) * s.astype(np.float32) + np.float32(1))
    return _shifted(np.repeat(scale, 2, axis=1), index, high >= 8)
