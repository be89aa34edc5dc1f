"""Encoding: the bytes of the gguf package where it has them, bounded error elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.formats import FORMATS, can_encode, decode, encode, format_by_name

REFERENCE = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"]
AFFINE = {"Q2_K": (16, 3, 15), "Q4_K": (32, 15, 63), "Q5_K": (32, 31, 63)}
SIGNED = {"Q3_K": (4, 32), "Q6_K": (32, 128)}


def weights(seed: int, exponent: int = 0) -> np.ndarray:
    """16 rows of 512 values: normal ones, heavy tails, one sign only, constants, zeros, a lone outlier."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((16, 512))
    x[4:6] = rng.standard_t(3, (2, 512))
    x[6], x[7] = np.abs(x[6]), -np.abs(x[7])
    x[8], x[9, :256], x[10], x[10, 77] = 1, 0, 0, -1
    x[11] = np.round(4 * x[11]) / 4
    return np.ldexp(x, exponent).astype(np.float32)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-20, 8))
@pytest.mark.parametrize("name", REFERENCE)
def test_bytes_are_those_of_gguf(name: str, seed: int, exponent: int) -> None:
    fmt, x = format_by_name(name), weights(seed, exponent)
    with np.errstate(all="ignore"):
        expected = np.ascontiguousarray(quantize(x, GGMLQuantizationType(fmt.id))).view(np.uint8)
    data = encode(fmt, x)
    assert (data.shape, data.dtype) == ((16, fmt.row_bytes(512)), np.uint8)
    assert np.array_equal(data, expected.reshape(data.shape))


def test_floats_that_are_not_finite() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 65519, 65520, 3.4e38], np.float32)
    for name, expected in (
        ("F32", x),
        ("F16", [np.inf, -np.inf, np.nan, 65504, np.inf, np.inf]),
        ("BF16", [np.inf, -np.inf, np.nan, 65536, 65536, np.inf]),
    ):
        assert np.array_equal(
            decode(format_by_name(name), encode(format_by_name(name), x)),
            np.array(expected, np.float32),
            equal_nan=True,
        )


def steps(x: np.ndarray, size: int) -> np.ndarray:
    return x.reshape(len(x), 512 // 256, 256 // size, size)


def affine_bound(name: str, x: np.ndarray) -> np.ndarray:
    """Half a step, plus what rounding the sub-block's scale and minimum takes from its range."""
    size, top, top_scale = AFFINE[name]
    groups = steps(x, size)
    low = np.minimum(groups.min(-1, keepdims=True), 0)
    step = (groups.max(-1, keepdims=True) - low) / top
    d = step.max(-2, keepdims=True) / top_scale
    dmin = -low.min(-2, keepdims=True) / top_scale
    return np.broadcast_to((step + d + dmin + top * d) / 2, groups.shape).reshape(x.shape)


def signed_bound(name: str, x: np.ndarray) -> np.ndarray:
    """A step, as +zero is out of range, plus the scale's rounding (to 31 / 32 at worst) at full range."""
    zero, zero_scale = SIGNED[name]
    groups = steps(x, 16)
    step = np.abs(groups).max(-1, keepdims=True) / zero
    d = step.max(-2, keepdims=True) / zero_scale
    return np.broadcast_to(step + zero * d, groups.shape).reshape(x.shape)


def codebook_bound(name: str, x: np.ndarray) -> np.ndarray:
    """The codebook ends at 113 where -127 may be mirrored; gaps within are at most 24."""
    groups = steps(x, 32)
    step = np.abs(groups).max(-1, keepdims=True) / 127
    d = step.max(-2, keepdims=True) / 32 if name == "IQ4_XS" else 0 * step
    return np.broadcast_to(14 * (step + d) + 127 * d, groups.shape).reshape(x.shape)


BOUNDS = {
    **dict.fromkeys(AFFINE, affine_bound),
    **dict.fromkeys(SIGNED, signed_bound),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), codebook_bound),
}


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-2, 8))
@pytest.mark.parametrize("name", BOUNDS)
def test_error_is_bounded(name: str, seed: int, exponent: int) -> None:
    fmt, x = format_by_name(name), weights(seed, exponent)
    error = np.abs(decode(fmt, encode(fmt, x)) - x)
    # Binary16 scales are off by up to 2^-11 of themselves, or by 2^-25 where they are subnormal.
    bound = BOUNDS[name](name, x) + 2.0**-10 * np.abs(steps(x, 256)).max(-1).max(-1).repeat(256, 1) + 2.0**-14
    assert (error <= bound).all()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Q2_K", 0.12),
        ("Q3_K", 0.03),
        ("Q4_K", 7e-3),
        ("Q5_K", 2e-3),
        ("Q6_K", 5e-4),
        ("IQ4_NL", 8e-3),
        ("IQ4_XS", 8e-3),
    ],
)
def test_normal_weights_lose_no_more_than_the_bits_say(name: str, error: float) -> None:
    x = np.random.default_rng(3).standard_normal((64, 1024)).astype(np.float32)
    y = decode(format_by_name(name), encode(format_by_name(name), x))
    assert ((y - x) ** 2).mean() < error


@pytest.mark.parametrize("name", [*REFERENCE, *BOUNDS])
def test_zeros_stay_zeros_and_shapes_follow(name: str) -> None:
    fmt = format_by_name(name)
    data = encode(fmt, np.zeros((2, 3, 512)))
    assert data.shape == (2, 3, fmt.row_bytes(512))
    assert not decode(fmt, data).any()
    assert encode(fmt, np.zeros((0, 512))).shape == (0, fmt.row_bytes(512))


@pytest.mark.parametrize("name", [*REFERENCE[3:], *BOUNDS])
def test_tiny_values_become_zeros(name: str) -> None:
    fmt = format_by_name(name)
    x = np.full((1, 512), 1e-40, np.float32)
    assert np.abs(decode(fmt, encode(fmt, x))).max() <= (2.0**-127 if name == "MXFP4" else 0)


def test_unfit_values_are_refused() -> None:
    with pytest.raises(ValueError, match="Q4_K: a row must be a multiple of 256 elements, but has 128"):
        encode(format_by_name("Q4_K"), np.zeros((2, 128)))
    with pytest.raises(ValueError, match="expected rows of values, got a scalar"):
        encode(format_by_name("F32"), np.zeros(()))
    for name in (*REFERENCE[3:], *BOUNDS):
        with pytest.raises(ValueError, match=f"{name}: expected finite values"):
            encode(format_by_name(name), np.full((1, 256), np.nan))
    with pytest.raises(ValueError, match=r"scale 7.8.*e\+27, beyond binary16's 65504"):
        encode(format_by_name("Q8_0"), np.full((1, 32), 1e30))
    for fmt in FORMATS.values():
        if not can_encode(fmt):
            with pytest.raises(ValueError, match=f"{fmt.name} cannot be encoded; expected one of F32, "):
                encode(fmt, np.zeros((1, 256)))
