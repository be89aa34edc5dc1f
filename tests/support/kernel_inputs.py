"""Random weights of every format, and activations that try a kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamaq import formats

__all__ = ["FLOATS", "QUANTIZED", "activations", "random_rows"]

QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
             "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S",
             "IQ3_XXS", "IQ3_S"]  # fmt: skip
FLOATS = ["F32", "F16", "BF16"]


def random_rows(rng: np.random.Generator, name: str, rows: int, cols: int) -> NDArray[np.uint8]:
    """Rows of random bytes whose half-precision scales are finite, so that sums stay finite too."""
    fmt = formats.format_by_name(name)
    if fmt.name in FLOATS:
        return formats.encode(fmt, rng.standard_normal((rows, cols)).astype(np.float32))
    data = rng.integers(0, 256, (rows, fmt.row_bytes(cols)), dtype=np.uint8)
    dtype = formats.BLOCKS[fmt.name]
    blocks = data.view(dtype)
    for field in dtype.names or ():
        if dtype[field].base == np.float16:
            blocks[field] = rng.standard_normal(blocks[field].shape).astype(np.float16)
    if name == "MXFP4":
        data.reshape(-1, 17)[:, 0] = rng.integers(100, 140, data.size // 17)
    if name == "IQ1_M":  # its half-precision scale is spread over the top nibbles of four words
        data.view("<u2").reshape(-1, 28)[:, 24:] &= 0x0FFF
        data.view("<u2").reshape(-1, 28)[:, 27] |= 0x3000
    return data


def activations(rng: np.random.Generator, m: int, cols: int) -> NDArray[np.float32]:
    """Rows with ties, zeros, outliers and tiny blocks among ordinary numbers."""
    x = rng.standard_normal((m, cols)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] *= 1e4
    x[0, : min(cols, 32)] = np.arange(min(cols, 32)) - 15.5
    x[-1, -min(cols, 32) :] = 0
    if m > 2:
        x[1, : min(cols, 32)] *= np.float32(1e-33)
    return x
