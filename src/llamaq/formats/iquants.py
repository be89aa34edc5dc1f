"""The IQ1, IQ2 and IQ3 families (decode only): vectors of a codebook, signs and scales.

Layouts are ggml's (`ggml-common.h`, `ggml-quants.c`). ``d * (0.5 + s) / 4`` is ``(d / 8) * (2s + 1)``, and a
vector shifted by 1/8 is an integer once it is multiplied by 8. Every product of scales and levels is exact in
binary32, because a scale has 11 bits, its factor at most 5 and a level at most 6.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bits import split
from .floats import Blocks, Values
from .grids import GRIDS
from .unpacked import Unpacked

__all__ = [
    "unpack_iq1_m",
    "unpack_iq1_s",
    "unpack_iq2_s",
    "unpack_iq2_xs",
    "unpack_iq2_xxs",
    "unpack_iq3_s",
    "unpack_iq3_xxs",
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


def _odd(s: NDArray[Any]) -> NDArray[np.int8]:
    """``2s + 1``"""
    return (s.astype(np.int8) << np.int8(1)) | np.int8(1)


def _scales(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(n, k) bytes of two four-bit scales s each, as ``2s + 1`` (n, 2k)."""
    return _odd(split(packed[..., None], 4).reshape(len(packed), -1))


def _signed(vectors: NDArray[np.int8], signs: NDArray[np.int8]) -> NDArray[np.int8]:
    """Codebook vectors and signs (n, 256 elements in any shape) as (n, 256)."""
    return vectors.reshape(-1, 256) * signs.reshape(-1, 256)


def _d(blocks: Blocks) -> Values:
    return blocks["d"].astype(np.float32)[:, None]


def _scale_and_signs(words: NDArray[np.uint32]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """32-bit words of a scale (upper four bits, s as ``2s + 1``) and four sign patterns of seven bits."""
    patterns = (words[..., None] >> np.arange(0, 28, 7, dtype=np.uint32)) & np.uint32(127)
    return _odd(words >> np.uint32(28)), _even_signs()[patterns]


def _halves(d: Values, scales: NDArray[np.int8], q: NDArray[np.int8]) -> Unpacked:
    """``(d / 8) * scale`` of each 16 elements: d (n, 1), scales (n, 16)."""
    return Unpacked(q, np.repeat(d * np.float32(0.125), 8, axis=1), sub_scale=scales)


def unpack_iq2_xxs(blocks: Blocks) -> Unpacked:
    """32 elements: four vectors of eight, one scale ``d * (0.5 + s) / 4``."""
    s, signs = _scale_and_signs(blocks["groups"]["signs"])
    return Unpacked(_signed(_grid("IQ2_XXS")[blocks["groups"]["qs"]], signs), _d(blocks) * np.float32(0.125) * s)


def unpack_iq2_xs(blocks: Blocks) -> Unpacked:
    """A 16-bit word per eight elements: nine bits of vector, seven of signs; a scale per 16 elements."""
    qs = blocks["qs"]
    q = _signed(_grid("IQ2_XS")[qs & np.uint16(511)], _even_signs()[qs >> np.uint16(9)])
    return _halves(_d(blocks), _scales(blocks["scales"]), q)


def unpack_iq2_s(blocks: Blocks) -> Unpacked:
    """Ten bits of vector (two of them in ``qh``) and eight signs per eight elements; a scale per 16."""
    high = split(blocks["qh"][..., None], 2).reshape(-1, 32)
    index = blocks["qs"] | (high.astype(np.uint16) << np.uint16(8))
    q = _signed(_grid("IQ2_S")[index], _signs(blocks["signs"]))
    return _halves(_d(blocks), _scales(blocks["scales"]), q)


def unpack_iq3_xxs(blocks: Blocks) -> Unpacked:
    """32 elements: eight vectors of four, one scale ``d * (0.5 + s) / 2``."""
    s, signs = _scale_and_signs(blocks["signs"])
    return Unpacked(_signed(_grid("IQ3_XXS")[blocks["qs"]], signs), _d(blocks) * np.float32(0.25) * s)


def unpack_iq3_s(blocks: Blocks) -> Unpacked:
    """Nine bits of vector (one of them in ``qh``) per four elements; a scale ``d * (1 + 2s)`` per 32."""
    high = split(blocks["qh"][..., None], 1).reshape(-1, 64)
    index = blocks["qs"] | (high.astype(np.uint16) << np.uint16(8))
    return Unpacked(_signed(_grid("IQ3_S")[index], _signs(blocks["signs"])), _d(blocks) * _scales(blocks["scales"]))


def _shifted(index: NDArray[np.uint16], negative: NDArray[np.bool_]) -> NDArray[np.int8]:
    """``8 * (vector + 1/8)``, or minus 1/8: index and sign per eight elements, (n, 32)."""
    shift = np.where(negative, np.int8(-1), np.int8(1))
    return (np.int8(8) * _grid("IQ1_S")[index] + shift[..., None]).reshape(-1, 256)


def unpack_iq1_s(blocks: Blocks) -> Unpacked:
    """``qh`` per 32 elements: three more bits for each of four vectors, a scale, the shift's sign."""
    qh = blocks["qh"]
    high = (qh[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)
    index = (blocks["qs"] | (high << np.uint16(8))).reshape(-1, 32)
    scale = _d(blocks) * np.float32(0.125) * _odd((qh >> np.uint16(12)) & np.uint16(7))
    return Unpacked(_shifted(index, np.repeat(qh >= 0x8000, 4, axis=1)), scale)


def unpack_iq1_m(blocks: Blocks) -> Unpacked:
    """``qh`` per eight elements: three more bits of vector and the shift's sign; a scale per 16 elements.

    ``d`` is spread over the upper four bits of the four words of ``scales``, lowest first.
    """
    words = blocks["scales"].astype(np.uint16)
    parts = (words >> np.uint16(12)) << np.arange(0, 16, 4, dtype=np.uint16)
    d = np.bitwise_or.reduce(parts, axis=-1).view(np.float16).astype(np.float32)[:, None]
    s = ((words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16)) & np.uint16(7)).reshape(-1, 16)
    high = split(blocks["qh"][..., None], 4).reshape(-1, 32)
    index = blocks["qs"] | ((high & np.uint8(7)).astype(np.uint16) << np.uint16(8))
    return _halves(d, _odd(s), _shifted(index, high >= 8))
