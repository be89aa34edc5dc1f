"""Small bit fields inside bytes: how every quantized format stores its integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["join", "split"]


def split(data: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(..., n) bytes to (..., 8 / bits, n) unsigned fields of ``bits`` bits, lowest bits first.

    ggml mostly puts the low fields of a run of bytes first, then the next ones. Where the fields of one
    byte are neighbours instead, pass ``data[..., None]``.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields: NDArray[np.uint8] = (data[..., None, :] >> shifts) & np.uint8((1 << bits) - 1)
    return fields


def join(fields: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The inverse of :func:`split`: (..., 8 / bits, n) fields below ``2**bits`` to (..., n) bytes."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    data: NDArray[np.uint8] = np.bitwise_or.reduce(fields << shifts, axis=-2)
    return data
