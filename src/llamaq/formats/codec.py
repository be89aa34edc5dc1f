"""decode, encode and unpack: from a format to the functions of its family."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from . import floats, fp4, iq4, iquants, kquants, legacy, ternary
from .blocks import BLOCKS, as_blocks
from .floats import Blocks, Values
from .table import Format
from .unpacked import Unpacked

__all__ = ["can_decode", "can_encode", "can_unpack", "decode", "encode", "unpack"]

_UNPACK: dict[str, Callable[[Blocks], Unpacked]] = {
    "Q4_0": legacy.unpack_q4_0,
    "Q4_1": legacy.unpack_q4_1,
    "Q5_0": legacy.unpack_q5_0,
    "Q5_1": legacy.unpack_q5_1,
    "Q8_0": legacy.unpack_q8_0,
    "Q2_K": kquants.unpack_q2_k,
    "Q3_K": kquants.unpack_q3_k,
    "Q4_K": kquants.unpack_q4_k,
    "Q5_K": kquants.unpack_q5_k,
    "Q6_K": kquants.unpack_q6_k,
    "IQ4_NL": iq4.unpack_iq4_nl,
    "IQ4_XS": iq4.unpack_iq4_xs,
    "IQ1_S": iquants.unpack_iq1_s,
    "IQ1_M": iquants.unpack_iq1_m,
    "IQ2_XXS": iquants.unpack_iq2_xxs,
    "IQ2_XS": iquants.unpack_iq2_xs,
    "IQ2_S": iquants.unpack_iq2_s,
    "IQ3_XXS": iquants.unpack_iq3_xxs,
    "IQ3_S": iquants.unpack_iq3_s,
    "TQ1_0": ternary.unpack_tq1_0,
    "TQ2_0": ternary.unpack_tq2_0,
    "Q1_0": ternary.unpack_q1_0,
    "Q2_0": ternary.unpack_q2_0,
    "MXFP4": fp4.unpack_mxfp4,
    "NVFP4": fp4.unpack_nvfp4,
}

_DECODE: dict[str, Callable[[Blocks], Values]] = {
    "F32": floats.decode_float,
    "F16": floats.decode_float,
    "BF16": floats.decode_bf16,
}

_ENCODE_FLOAT: dict[str, Callable[[Values], Blocks]] = {
    "F32": floats.encode_f32,
    "F16": floats.encode_f16,
    "BF16": floats.encode_bf16,
}

_ENCODE: dict[str, Callable[[str, Values], Blocks]] = {
    "Q4_0": legacy.encode_symmetric,
    "Q4_1": legacy.encode_affine,
    "Q5_0": legacy.encode_symmetric,
    "Q5_1": legacy.encode_affine,
    "Q8_0": legacy.encode_q8_0,
    "Q2_K": kquants.encode_q2_k,
    "Q3_K": kquants.encode_q3_k,
    "Q4_K": kquants.encode_q4_k,
    "Q5_K": kquants.encode_q5_k,
    "Q6_K": kquants.encode_q6_k,
    "IQ4_NL": iq4.encode_iq4_nl,
    "IQ4_XS": iq4.encode_iq4_xs,
    "TQ1_0": ternary.encode_tq1_0,
    "TQ2_0": ternary.encode_tq2_0,
    "MXFP4": fp4.encode_mxfp4,
}

_CHUNK = 1 << 18  # elements worked on at a time, so that temporary arrays stay in the cache


def can_decode(fmt: Format) -> bool:
    """Whether :func:`decode` knows the format."""
    return fmt.name in _DECODE or fmt.name in _UNPACK


def can_encode(fmt: Format) -> bool:
    """Whether :func:`encode` knows the format."""
    return fmt.name in _ENCODE or fmt.name in _ENCODE_FLOAT


def can_unpack(fmt: Format) -> bool:
    """Whether :func:`unpack` knows the format: those that have kernels in exact integer arithmetic."""
    return fmt.name in _UNPACK


def unpack(fmt: Format, data: NDArray[np.uint8]) -> Unpacked:
    """Blocks, uint8 (..., row_bytes), as the integers and scales that the kernels multiply.

    Raises ValueError for a format without them (see :func:`can_unpack`) or rows that are not whole blocks,
    TypeError for data that is not uint8.
    """
    if fmt.name not in _UNPACK:
        raise ValueError(f"{fmt.name} has no integer kernel; expected one of {', '.join(_UNPACK)}")
    blocks = as_blocks(fmt, data)
    with np.errstate(all="ignore"):
        return _UNPACK[fmt.name](blocks.ravel()).as_rows(blocks.shape[:-1], blocks.shape[-1])


def decode(fmt: Format, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blocks, uint8 (..., row_bytes), as float32 (..., cols), equal bit for bit to ggml's reference.

    Raises ModelError for a format without a decoder, ValueError for rows that are not whole blocks,
    TypeError for data that is not uint8.
    """
    if not can_decode(fmt):
        raise ModelError(
            f"{fmt.name} cannot be decoded; expected one of {', '.join([*_UNPACK, *_DECODE])}: "
            "convert the tensor with the tool that wrote it"
        )
    blocks = as_blocks(fmt, data)
    flat = blocks.ravel()
    values = np.empty((flat.size, fmt.block), np.float32)
    step = max(1, _CHUNK // fmt.block)
    # Damaged files hold infinite and NaN scales: their products are what they are, without a warning.
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, step):
            part = flat[start : start + step]
            unpacker = _UNPACK.get(fmt.name)
            values[start : start + step] = unpacker(part).weights() if unpacker else _DECODE[fmt.name](part)
    return values.reshape(*blocks.shape[:-1], blocks.shape[-1] * fmt.block)


def encode(fmt: Format, x: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values (..., cols), rounded to float32, as blocks, uint8 (..., row_bytes).

    F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, TQ1_0, TQ2_0 and MXFP4 give the bytes of ggml's reference
    encoder. The K-quants, IQ4_NL and IQ4_XS are rounded to nearest without its search for better scales.
    Raises ValueError for a format without an encoder, rows that are not whole blocks, values that are not
    finite (F32, F16 and BF16 take them) or beyond the range of the format's scales.
    """
    if not can_encode(fmt):
        known = ", ".join([*_ENCODE_FLOAT, *_ENCODE])
        raise ValueError(f"{fmt.name} cannot be encoded; expected one of {known}")
    if x.ndim == 0:
        raise ValueError(f"{fmt.name}: expected rows of values, got a scalar")
    row_bytes = fmt.row_bytes(x.shape[-1])
    values = np.ascontiguousarray(x, dtype=np.float32).reshape(-1, fmt.block)
    if fmt.name in _ENCODE and not np.isfinite(values).all():
        raise ValueError(f"{fmt.name}: expected finite values, got inf or NaN; store this tensor as F32")
    blocks = np.empty(len(values), BLOCKS[fmt.name])
    step = max(1, _CHUNK // fmt.block)
    with np.errstate(all="ignore"):
        for start in range(0, len(values), step):
            part = values[start : start + step]
            known_float = _ENCODE_FLOAT.get(fmt.name)
            blocks[start : start + step] = known_float(part) if known_float else _ENCODE[fmt.name](fmt.name, part)
    return blocks.view(np.uint8).reshape(*x.shape[:-1], row_bytes)
