"""The building blocks of docs/numerics.md in NumPy: every float32 operation rounded exactly as written there.

NumPy rounds each elementary operation once, as IEEE 754 asks. What it lacks is made here: ``fma`` with
one rounding, sums in a fixed order, and ``exp``, ``sin`` and ``cos`` that no C library decides.
All functions accept infinities and NaN and warn about nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "exp32",
    "fma32",
    "fma_dot",
    "lane_sum",
    "lane_sum_of_squares",
    "layer_norm",
    "log64",
    "quantize_rows",
    "rms_norm",
    "rotate",
    "rotation_table",
    "round_to_cache",
    "sigmoid",
    "tanh32",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
LANES = 16
QUANT_BLOCK = 32

_LOW_28_BITS = np.int64((1 << 28) - 1)


def fma32(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> F32:
    """``a * b + c`` of float32 values, broadcast, rounded once."""
    with np.errstate(all="ignore"):
        product = np.multiply(a, b, dtype=np.float64)  # exact: 24 + 24 bits
        return _add_and_round(product, np.asarray(c, np.float64))


def _add_and_round(product: F64, addend: F64) -> F32:
    """The exact sum of an exact product and a float32 value, rounded once to float32.

    The float64 sum is itself rounded. That harms only where it lies halfway between two float32 values:
    its low 28 bits are zero, and it is none of them. The sum is then first rounded to odd (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd").
    """
    total = np.asarray(product + addend)
    rounded = total.astype(np.float32)
    low_bits = total.view(np.int64) & _LOW_28_BITS
    if not low_bits.all() and ((low_bits == 0) & (rounded != total)).any():
        rounded = _to_odd(product, addend, total).astype(np.float32)
    return rounded


def _to_odd(product: F64, addend: F64, total: F64) -> F64:
    part = total - product
    error = np.asarray((product - (total - part)) + (addend - part))  # Knuth's two-sum: exact
    inexact = (np.abs(error) > 0).astype(np.int64)  # false for the NaN that an infinite sum leaves
    bits = total.view(np.int64)
    overshot = ((error.view(np.int64) ^ bits) >> 63) & inexact  # the true sum lies nearer to zero
    return np.asarray(((bits - overshot) | inexact).view(np.float64))


def fma_dot(weights: F32, x: F32, seen: NDArray[np.bool_] | None = None) -> F32:
    """``x @ weights.T`` as one chain of fma per output, ascending in the shared last axis.

    ``weights`` is (..., outputs, k) and ``x`` (..., rows, k); the result is (..., rows, outputs). Where
    ``seen`` (rows, k) is false, the term is left out.
    """
    columns = np.ascontiguousarray(np.moveaxis(weights, -1, 0), np.float64)[..., None, :]
    factors = np.ascontiguousarray(np.moveaxis(x, -1, 0), np.float64)[..., :, None]
    total = np.zeros(np.broadcast_shapes(columns.shape[1:], factors.shape[1:]), np.float32)
    with np.errstate(all="ignore"):
        for k, (column, factor) in enumerate(zip(columns, factors, strict=True)):
            longer = _add_and_round(column * factor, total.astype(np.float64))
            total = longer if seen is None else np.where(seen[:, k, None], longer, total)
    return total


def _fold(lanes: F32) -> F32:
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _in_lanes(x: F32) -> F32:
    """(..., n) as (..., steps, 16). Zeros fill the tail; a lane that starts at +0 never notices them."""
    missing = -x.shape[-1] % LANES
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
    return padded.reshape(*x.shape[:-1], padded.shape[-1] // LANES, LANES)


def lane_sum(x: F32) -> F32:
    """Sum over the last axis in 16 lanes and one tree."""
    steps = _in_lanes(x)
    lanes = np.zeros((*x.shape[:-1], LANES), np.float32)
    with np.errstate(all="ignore"):
        for i in range(steps.shape[-2]):
            lanes = lanes + steps[..., i, :]
        return _fold(lanes)


def lane_sum_of_squares(x: F32) -> F32:
    """Sum of squares over the last axis in 16 lanes, each a chain of fma."""
    steps = _in_lanes(x)
    lanes = np.zeros((*x.shape[:-1], LANES), np.float32)
    with np.errstate(all="ignore"):
        for i in range(steps.shape[-2]):
            lanes = fma32(steps[..., i, :], steps[..., i, :], lanes)
        return _fold(lanes)


_EXP_COEFFICIENTS = (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def _power_of_two(n: NDArray[np.int32]) -> F32:
    return ((n + 127) << 23).astype(np.int32).view(np.float32)


def exp32(x: F32) -> F32:
    """e to the x by the polynomial of docs/numerics.md (that of Cephes' ``expf``)."""
    x = np.asarray(x, np.float32)
    too_big, too_small = x > np.float32(88.72), x < np.float32(-87.33)
    ordinary = np.where(too_big | too_small | np.isnan(x), np.float32(0), x)
    n = np.rint(ordinary * np.float32(1.44269504088896341))
    r = fma32(n, np.float32(-0.693359375), ordinary)
    r = fma32(n, np.float32(2.12194440e-4), r)
    p: F32 = np.full_like(r, np.float32(1.9875691500e-4))
    for c in _EXP_COEFFICIENTS:
        p = fma32(p, r, np.float32(c))
    p = fma32(p, r * r, r) + np.float32(1)
    whole = n.astype(np.int32)
    half = whole >> 1
    with np.errstate(all="ignore"):
        y = (p * _power_of_two(half)) * _power_of_two(whole - half)
    y = np.where(too_big, np.float32(np.inf), np.where(too_small, np.float32(0), y))
    return np.where(np.isnan(x), x, y)


_TANH_COEFFICIENTS = (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)


def tanh32(x: F32) -> F32:
    """The hyperbolic tangent by the polynomial of docs/numerics.md (that of Cephes' ``tanhf``), or by ``exp32``."""
    x = np.asarray(x, np.float32)
    with np.errstate(all="ignore"):
        z = x * x
        p: F32 = np.full_like(x, np.float32(-5.70498872745e-3))
        for c in _TANH_COEFFICIENTS:
            p = fma32(p, z, np.float32(c))
        magnitude = np.abs(x)
        far = np.float32(1) - np.float32(2) / (exp32(magnitude + magnitude) + np.float32(1))
        return np.where(magnitude < np.float32(0.625), fma32(p * z, x, x), np.copysign(far, x))


def log64(x: ArrayLike) -> F64:
    """The natural logarithm of positive finite numbers in float64, by the series of docs/numerics.md."""
    m, n = np.frexp(np.asarray(x, np.float64))
    low = m < 0.70710678118654752440
    m, n = np.where(low, 2 * m, m), (n - low).astype(np.float64)
    s = (m - 1) / (m + 1)
    total = np.zeros_like(s)
    for i in range(25, 0, -2):
        total = total * (s * s) + 1.0 / i
    return np.asarray(n * _LOG_2[0] + (2 * s * total + n * _LOG_2[1]))


_LOG_2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # their sum is log 2


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x)), from the power that does not overflow."""
    with np.errstate(all="ignore"):
        power = exp32(-np.abs(x))
        return np.asarray(np.where(x >= 0, np.float32(1), power) / (np.float32(1) + power))


def rms_norm(x: F32, weight: F32 | None, eps: float) -> F32:
    """Rows of ``x`` over the root of their mean square, times ``weight``."""
    with np.errstate(all="ignore"):
        mean = lane_sum_of_squares(x) / np.float32(x.shape[-1])
        scale = np.float32(1) / np.sqrt(mean + np.float32(eps))
        y = x * scale[..., None]
        return np.asarray(y if weight is None else y * weight)


def layer_norm(x: F32, weight: F32 | None, bias: F32 | None, eps: float) -> F32:
    """Rows of ``x`` without their mean, over the root of their variance, times ``weight``, plus ``bias``."""
    with np.errstate(all="ignore"):
        centred = x - (lane_sum(x) / np.float32(x.shape[-1]))[..., None]
        y = rms_norm(centred, weight, eps)
        return y if bias is None else y + bias


def quantize_rows(x: F32) -> tuple[NDArray[np.int32], F32]:
    """Activations (rows, k) as integers in -127…127 (rows, k/32, 32) and scales (rows, k/32)."""
    blocks = x.reshape(*x.shape[:-1], x.shape[-1] // QUANT_BLOCK, QUANT_BLOCK)
    magnitude = (np.ascontiguousarray(blocks).view(np.uint32) & np.uint32(0x7FFFFFFF)).max(-1)
    amax = magnitude.view(np.float32)
    usable = np.isfinite(amax) & (amax >= np.float32(2.0**-100))
    divisor = np.where(usable, amax, np.float32(1))
    scale = np.where(usable, divisor / np.float32(127), np.where(np.isfinite(amax), 0, np.nan))
    inverse = np.float32(127) / divisor
    q = np.rint(np.where(usable[..., None], blocks, 0) * inverse[..., None])
    return q.astype(np.int32), scale.astype(np.float32)


def round_to_cache(x: F32, cache_type: str) -> F32:
    """Keys or values (..., dim) as a cache of type "f32", "f16", "q8_0" or "q4_0" gives them back."""
    with np.errstate(all="ignore"):
        if cache_type in ("q8_0", "q4_0"):
            return _round_to_blocks(x.reshape(-1, QUANT_BLOCK), cache_type == "q8_0").reshape(x.shape)
        return x.astype(np.float16 if cache_type == "f16" else np.float32).astype(np.float32)


def _round_to_blocks(x: F32, eight_bits: bool) -> F32:
    """Rows of 32 as GGUF's reference quantizes them to Q8_0 (or Q4_0); NaN where one of them is not finite."""
    extreme = np.take_along_axis(x, np.abs(x).argmax(-1)[:, None], -1)  # the first of greatest magnitude, or a NaN
    usable = np.isfinite(extreme) & (np.abs(extreme) >= np.float32(2.0**-100))
    d = np.where(usable, np.abs(extreme) / np.float32(127) if eight_bits else extreme / np.float32(-8), np.float32(1))
    scaled = np.where(usable, x, np.float32(0)) * (np.float32(1) / d)
    if eight_bits:
        whole = np.trunc(scaled)
        q = whole + np.trunc(2 * (scaled - whole))  # halves away from zero
    else:
        q = np.minimum(np.trunc(scaled + np.float32(8.5)), np.float32(15)) - np.float32(8)
    scale = np.where(usable, d, np.where(np.isfinite(extreme), np.float32(0), np.float32(np.nan)))
    return np.asarray(q * scale.astype(np.float16).astype(np.float32))


# Coefficients of fdlibm's __kernel_sin and __kernel_cos, and pi/2 in three parts (its __ieee754_rem_pio2).
_SIN = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
_COS = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)


def _horner(z: F64, coefficients: tuple[float, ...]) -> F64:
    total: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = c + z * total
    return np.asarray(total)


def rotation_table(positions: ArrayLike, frequencies: ArrayLike, attention_factor: float) -> tuple[F32, F32]:
    """cos and sin of position * frequency, times the attention factor: two (rows, pairs) arrays. ``positions`` are
    (rows,), or (rows, pairs) where pairs turn by different ones."""
    turned = np.asarray(positions, np.float64)
    angle = (turned[:, None] if turned.ndim == 1 else turned) * np.asarray(frequencies, np.float64)
    n = np.rint(angle * 0.6366197723675814)
    r = ((angle - n * _HALF_PI[0]) - n * _HALF_PI[1]) - n * _HALF_PI[2]
    z = r * r
    sin = r + (r * z) * _horner(z, _SIN)
    cos = (1.0 - 0.5 * z) + (z * z) * _horner(z, _COS)
    quadrant = n.astype(np.int64) & 3
    swapped = (quadrant & 1).astype(bool)
    c = np.where(swapped, sin, cos)
    s = np.where(swapped, cos, sin)
    c = np.where((quadrant == 1) | (quadrant == 2), -c, c)
    s = np.where(quadrant >= 2, -s, s)
    return (c * attention_factor).astype(np.float32), (s * attention_factor).astype(np.float32)


def rotate(x: F32, cos: F32, sin: F32, *, interleaved: bool) -> F32:
    """Heads (rows, heads, head_dim) with their first 2 * pairs dimensions rotated by tables (rows, pairs)."""
    pairs = cos.shape[-1]
    if interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    c, s = cos[:, None, :], sin[:, None, :]
    x0, x1 = x[..., first], x[..., second]
    y = x.copy()
    with np.errstate(all="ignore"):
        y[..., first] = fma32(x0, c, -(x1 * s))
        y[..., second] = fma32(x0, s, x1 * c)
    return y
