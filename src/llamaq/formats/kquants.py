"""Q2_K, Q3_K, Q4_K, Q5_K and Q6_K: super-blocks of 256 elements whose sub-blocks have integer scales.

Layouts are ggml's (`ggml-common.h`). The encoders round to nearest and search for nothing: right, but not
what a quantizer that minimizes its error would write.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bits import join, split
from .blocks import BLOCKS
from .floats import Blocks, Values, extreme, half, ratio
from .unpacked import Unpacked

__all__ = [
    "encode_q2_k",
    "encode_q3_k",
    "encode_q4_k",
    "encode_q5_k",
    "encode_q6_k",
    "signed_scales",
    "unpack_q2_k",
    "unpack_q3_k",
    "unpack_q4_k",
    "unpack_q5_k",
    "unpack_q6_k",
]

Bytes = NDArray[np.uint8]


def _per_32(x: NDArray[np.float16]) -> Values:
    return np.repeat(x.astype(np.float32)[:, None], 8, axis=1)


def _fields(data: Bytes, bits: int) -> Bytes:
    return split(data, bits).reshape(len(data), -1)


def unpack_q2_k(blocks: Blocks) -> Unpacked:
    """``(d * sc) * q - dmin * mn``; a byte of ``scales`` holds ``sc`` below and ``mn`` above."""
    scales = split(blocks["scales"], 4).view(np.int8)
    return Unpacked(
        _fields(blocks["qs"], 2).view(np.int8),
        _per_32(blocks["d"]),
        -_per_32(blocks["dmin"]),
        scales[:, 0],
        scales[:, 1],
    )


def unpack_q3_k(blocks: Blocks) -> Unpacked:
    """``(d * (sc - 32)) * (q - 4)``; ``hmask`` has the third bit of q, ``scales_h`` the upper two of sc."""
    q = _fields(blocks["qs"], 2) | (_fields(blocks["hmask"], 1) << np.uint8(2))
    sc = _fields(blocks["scales_l"], 4) | (_fields(blocks["scales_h"], 2) << np.uint8(4))
    return Unpacked(
        q.view(np.int8) - np.int8(4),
        _per_32(blocks["d"]),
        sub_scale=sc.view(np.int8) - np.int8(32),
    )


def _six_bit_pairs(packed: Bytes) -> tuple[Values, Values]:
    """(n, 3, 4) bytes to eight scales and eight minimums a block.

    Bytes 0-3 and 4-7 hold the first four of each in their low six bits. Bytes 8-11 hold the low four bits of
    the last four scales (below) and minimums (above), whose upper two bits top the first eight bytes.
    """
    first, mixed = packed[:, :2] & np.uint8(63), packed[:, 2]
    top = (packed[:, :2] >> np.uint8(2)) & np.uint8(48)
    low = split(mixed, 4)
    pairs = np.concatenate([first, low | top], axis=-1).astype(np.float32)
    return pairs[:, 0], pairs[:, 1]


def _unpack_affine(blocks: Blocks, q: Bytes) -> Unpacked:
    sc, mn = _six_bit_pairs(blocks["scales"])
    return Unpacked(q.view(np.int8), _per_32(blocks["d"]) * sc, -(_per_32(blocks["dmin"]) * mn))


def unpack_q4_k(blocks: Blocks) -> Unpacked:
    """``(d * sc) * q - dmin * mn``"""
    return _unpack_affine(blocks, _fields(blocks["qs"], 4))


def unpack_q5_k(blocks: Blocks) -> Unpacked:
    """The same as Q4_K; bit ``j`` of ``qh[l]`` is the fifth bit of element ``l`` of sub-block ``j``."""
    return _unpack_affine(blocks, _fields(blocks["qs"], 4) | (_fields(blocks["qh"], 1) << np.uint8(4)))


def unpack_q6_k(blocks: Blocks) -> Unpacked:
    """``(d * sc) * (q - 32)``"""
    q = _fields(blocks["ql"], 4) | (_fields(blocks["qh"], 2) << np.uint8(4))
    return Unpacked(
        q.view(np.int8) - np.int8(32),
        _per_32(blocks["d"]),
        sub_scale=np.ascontiguousarray(blocks["scales"]),
    )


def _encode_affine(name: str, x: Values, size: int, top: int, top_scale: int) -> tuple[Blocks, Bytes, Bytes]:
    """Blocks with ``d`` and ``dmin``; scales and minimums (n, 2, sub-blocks); integers (n, 256)."""
    groups = x.reshape(len(x), -1, size)
    low = np.minimum(groups.min(axis=-1), 0)
    step = (groups.max(axis=-1) - low) / np.float32(top)
    pairs = np.stack([step, -low], axis=1)
    d = half(pairs.max(axis=-1) / np.float32(top_scale))
    unit = d.astype(np.float32)[:, :, None]
    integers = np.clip(np.rint(ratio(pairs, unit)), 0, top_scale)
    scale, minimum = np.moveaxis(unit * integers, 1, 0)[..., None]
    q = np.clip(np.rint(ratio(groups + minimum, scale)), 0, top)
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["d"], blocks["dmin"] = d[:, 0], d[:, 1]
    return blocks, integers.astype(np.uint8), q.reshape(x.shape).astype(np.uint8)


def signed_scales(wanted: Values, zero: int) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Signed scales (n, k) as ``d`` (n,) and integers (n, k) from ``-zero`` to ``zero - 1``."""
    d = half(extreme(wanted) / np.float32(-zero))
    integers = np.rint(ratio(wanted, d.astype(np.float32)[:, None]))
    return d, np.clip(integers, -zero, zero - 1).astype(np.int8)


def _encode_signed(name: str, x: Values, zero: int, zero_scale: int) -> tuple[Blocks, NDArray[np.int8], Bytes]:
    """Blocks with ``d``; scales (n, 16); integers (n, 256) with the zero point added."""
    groups = x.reshape(len(x), 16, 16)
    d, integers = signed_scales(extreme(groups) / np.float32(-zero), zero_scale)
    scale = (d.astype(np.float32)[:, None] * integers)[..., None]
    q = np.clip(np.rint(ratio(groups, scale)), -zero, zero - 1) + zero
    blocks = np.zeros(len(x), BLOCKS[name])
    blocks["d"] = d
    return blocks, integers, q.reshape(x.shape).astype(np.uint8)


def encode_q2_k(name: str, x: Values) -> Blocks:
    """Each 16 elements: two bits between their minimum (or 0) and their maximum."""
    blocks, pairs, q = _encode_affine(name, x, size=16, top=3, top_scale=15)
    blocks["scales"] = join(pairs, 4)
    blocks["qs"] = join(q.reshape(-1, 2, 4, 32), 2)
    return blocks


def encode_q3_k(name: str, x: Values) -> Blocks:
    """Each 16 elements: their value of greatest magnitude becomes -4."""
    blocks, integers, q = _encode_signed(name, x, zero=4, zero_scale=32)
    sc = (integers + np.int8(32)).view(np.uint8)
    blocks["scales_l"] = join((sc & np.uint8(15)).reshape(-1, 2, 8), 4)
    blocks["scales_h"] = join((sc >> np.uint8(4)).reshape(-1, 4, 4), 2)
    blocks["qs"] = join((q & np.uint8(3)).reshape(-1, 2, 4, 32), 2)
    blocks["hmask"] = join((q >> np.uint8(2)).reshape(-1, 8, 32), 1)
    return blocks


def _pack_six_bit_pairs(pairs: Bytes) -> Bytes:
    """The inverse of :func:`_six_bit_pairs`, from (n, 2, 8)."""
    first, last = pairs[..., :4], pairs[..., 4:]
    topped = first | ((last & np.uint8(48)) << np.uint8(2))
    return np.concatenate([topped, join(last & np.uint8(15), 4)[:, None]], axis=1)


def encode_q4_k(name: str, x: Values) -> Blocks:
    """Each 32 elements: four bits between their minimum (or 0) and their maximum."""
    blocks, pairs, q = _encode_affine(name, x, size=32, top=15, top_scale=63)
    blocks["scales"] = _pack_six_bit_pairs(pairs)
    blocks["qs"] = join(q.reshape(-1, 4, 2, 32), 4)
    return blocks


def encode_q5_k(name: str, x: Values) -> Blocks:
    """The same as Q4_K with five bits."""
    blocks, pairs, q = _encode_affine(name, x, size=32, top=31, top_scale=63)
    blocks["scales"] = _pack_six_bit_pairs(pairs)
    blocks["qs"] = join((q & np.uint8(15)).reshape(-1, 4, 2, 32), 4)
    blocks["qh"] = join((q >> np.uint8(4)).reshape(-1, 8, 32), 1)
    return blocks


def encode_q6_k(name: str, x: Values) -> Blocks:
    """Each 16 elements: their value of greatest magnitude becomes -32."""
    blocks, integers, q = _encode_signed(name, x, zero=32, zero_scale=128)
    blocks["scales"] = integers
    blocks["ql"] = join((q & np.uint8(15)).reshape(-1, 2, 2, 64), 4)
    blocks["qh"] = join((q >> np.uint8(4)).reshape(-1, 2, 4, 32), 2)
    return blocks
