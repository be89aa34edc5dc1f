"""The float32 building blocks against exact rational arithmetic and scalar transcriptions of the spec."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exact import exact_fma, round_to_f32
from llamaq.plan.activations import ACTIVATIONS, GATED, softcap
from llamaq.plan.arithmetic import (
    exp32,
    fma32,
    fma_dot,
    lane_sum,
    lane_sum_of_squares,
    layer_norm,
    log64,
    quantize_rows,
    rms_norm,
    rotate,
    rotation_table,
    tanh32,
)


def from_bits(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


any_bits = st.integers(0, 2**32 - 1).filter(lambda b: (b >> 23) & 0xFF != 0xFF)
small = st.builds(lambda sign, b: b | sign << 31, st.integers(0, 1), st.integers(0, 1 << 24))
few_bits = st.builds(
    lambda sign, e, m: sign << 31 | e << 23 | m << 20,
    st.integers(0, 1),
    st.integers(0, 254),
    st.integers(0, 7),
)
floats32 = st.one_of(any_bits, small, few_bits).map(from_bits)


@settings(max_examples=500)
@given(floats32, floats32, floats32)
def test_fma_is_rounded_once(a: float, b: float, c: float) -> None:
    assert fma32(a, b, c).item() == exact_fma(a, b, c)


@settings(max_examples=500)
@given(floats32, floats32, st.integers(-3, 3), st.integers(0, 40))
def test_fma_where_the_terms_nearly_cancel(a: float, b: float, ulps: int, shift: int) -> None:
    near = np.float32(np.clip(-(a * b), -3e38, 3e38))
    for _ in range(abs(ulps)):
        near = np.nextafter(near, np.float32(math.copysign(math.inf, ulps)))
    for c in (float(near), float(near) * 2.0**-shift):
        c = float(np.float32(c))
        if math.isfinite(c):
            assert fma32(a, b, c).item() == exact_fma(a, b, c)


def test_fma_on_ties_that_double_rounding_gets_wrong() -> None:
    rng = np.random.default_rng(1)
    n = 4000
    c = np.ldexp(rng.integers(1 << 23, 1 << 24, n), rng.integers(-149, -60, n)).astype(np.float32)
    half_ulp = (np.nextafter(c, np.float32(np.inf)) - c).astype(np.float64) / 2
    # a * b is half an ulp of c times 1 - 2^-46 or 1: too fine for a binary64 sum, which sees only ties
    step = rng.choice([0, 2.0**-23], n)
    scale = 2.0 ** rng.integers(-60, -30, n)
    a = (scale * (1.0 + step)).astype(np.float32)
    b = (half_ulp / scale * (1.0 - step) * rng.choice([-1, 1], n)).astype(np.float32)
    got = fma32(a, b, c)
    assert got.tolist() == [exact_fma(*t) for t in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)]


def test_fma_of_infinities_nan_and_signed_zeros() -> None:
    inf, nan = math.inf, math.nan
    cases = [
        (inf, 1, 1, inf),
        (-inf, 2, 5, -inf),
        (1, 1, -inf, -inf),
        (3e38, 3e38, 1, inf),
        (-3e38, 10, 0, -inf),
    ]
    for a, b, c, expected in cases:
        assert fma32(a, b, c).item() == expected
    for a, b, c in [(inf, 0, 1), (inf, 1, -inf), (nan, 1, 1), (1, 1, nan), (inf, -inf, inf)]:
        assert np.isnan(fma32(a, b, c))
    assert not np.signbit(fma32(1, 1, -1))
    assert np.signbit(fma32(-0.0, 1, -0.0))
    assert np.signbit(fma32(-1e-30, 1e-30, 0))


def test_fma_dot_is_a_chain_and_leaves_out_what_is_not_seen() -> None:
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    seen = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    w[0, 1] = np.nan
    for mask in (None, seen):
        got = fma_dot(w, x, mask)
        for row in range(2):
            for out in range(3):
                acc = 0.0
                for k in range(5):
                    if mask is None or mask[row, k]:
                        nan = math.isnan(acc + w[out, k])
                        acc = math.nan if nan else exact_fma(w[out, k], x[row, k], acc)
                np.testing.assert_equal(got[row, out], np.float32(acc))


@pytest.mark.parametrize("n", [1, 7, 16, 17, 40, 64, 257])
def test_sums_run_in_16_lanes_and_one_tree(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)
    for row, total, squares in zip(x, lane_sum(x), lane_sum_of_squares(x), strict=True):
        for got, square in ((total, False), (squares, True)):
            lanes = [np.float32(0)] * 16
            for i, v in enumerate(row):
                lanes[i % 16] = np.float32(exact_fma(v, v, lanes[i % 16])) if square else lanes[i % 16] + v
            for half in (8, 4, 2, 1):
                lanes = [lanes[i] + lanes[i + half] for i in range(half)]
            assert got == lanes[0]


def scalar_exp(x: float) -> float:
    if x > float(np.float32(88.72)):
        return math.inf
    if x < float(np.float32(-87.33)):
        return 0.0
    n = float(np.rint(np.float32(x) * np.float32(1.44269504088896341)))
    r = exact_fma(n, float(np.float32(-0.693359375)), x)
    r = exact_fma(n, float(np.float32(2.12194440e-4)), r)
    p = float(np.float32(1.9875691500e-4))
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = exact_fma(p, r, float(np.float32(c)))
    p = exact_fma(p, float(np.float32(r) * np.float32(r)), r)
    p = round_to_f32(Fraction(p) + 1)
    half = int(n) >> 1
    return round_to_f32(Fraction(round_to_f32(Fraction(p) * Fraction(2) ** half)) * Fraction(2) ** (int(n) - half))


@settings(max_examples=300)
@given(st.one_of(st.floats(-90, 90, width=32), floats32))
def test_exp_follows_the_spec(x: float) -> None:
    assert exp32(np.array([x], np.float32)).item() == scalar_exp(x)


def test_exp_is_close_to_the_truth() -> None:
    x = np.linspace(-87, 88, 20001).astype(np.float32)
    truth = np.exp(x.astype(np.float64))
    assert (np.abs(exp32(x) - truth) <= 1.0 * np.spacing(truth.astype(np.float32))).all()
    special = exp32(np.array([np.inf, -np.inf, np.nan, 0, -0.0, 89, -88], np.float32))
    np.testing.assert_array_equal(special, np.array([np.inf, 0, np.nan, 1, 1, np.inf, 0], np.float32))


def test_silu() -> None:
    x = np.array([-np.inf, -200, -1, 0, 1, 200, np.inf, np.nan], np.float32)
    expected = [np.nan, -0.0, -0.26894143, 0, 0.7310586, 200, np.inf, np.nan]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ACTIVATIONS["silu"](x), expected, rtol=2**-22)


def test_activations_are_near_the_functions_they_are_named_after() -> None:
    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(tanh32(x), np.tanh(wide), rtol=2**-22)
    assert tanh32(np.float32([-np.inf, np.inf, np.nan, -0.0, 1e30])).tolist()[:2] == [-1.0, 1.0]
    with np.errstate(all="ignore"):
        tanh_form = 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        np.testing.assert_allclose(ACTIVATIONS["gelu"](x), tanh_form, rtol=2**-21, atol=2**-22)
        erf_form = 0.5 * wide * (1 + np.array([math.erf(v / math.sqrt(2)) for v in wide]))
        np.testing.assert_allclose(ACTIVATIONS["gelu_erf"](x), erf_form, rtol=2**-21, atol=2**-20)
        quick_form = wide / (1 + np.exp(-1.702 * wide))
        np.testing.assert_allclose(ACTIVATIONS["gelu_quick"](x), quick_form, rtol=2**-21, atol=2**-22)
        gate, up = np.minimum(wide, 7), np.clip(wide, -7, 7)
        np.testing.assert_array_equal(ACTIVATIONS["relu2"](x), np.where(x < 0, np.float32(0), x * x))
        clamped = gate / (1 + np.exp(-1.702 * gate)) * (up + 1)
        np.testing.assert_allclose(GATED["clamped"](x, x), clamped, rtol=2**-20, atol=2**-22)
        np.testing.assert_array_equal(GATED["gelu"](x, x), ACTIVATIONS["gelu"](x) * x)
    np.testing.assert_allclose(softcap(x, 3.0), 3 * np.tanh(wide / 3), rtol=2**-21)


def test_rms_norm() -> None:
    x = np.random.default_rng(3).normal(size=(4, 37)).astype(np.float32)
    w = np.linspace(0.5, 2, 37).astype(np.float32)
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(rms_norm(x, w, 1e-5), expected, rtol=2**-20)


def test_layer_norm() -> None:
    x = np.random.default_rng(3).normal(2, 1, size=(4, 37)).astype(np.float32)
    w, b = np.linspace(0.5, 2, 37).astype(np.float32), np.linspace(-1, 1, 37).astype(np.float32)
    wide = x.astype(np.float64)
    wide -= wide.mean(-1, keepdims=True)
    wide /= np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer_norm(x, w, b, 1e-5), wide * w + b, rtol=2**-18, atol=2**-20)
    np.testing.assert_allclose(layer_norm(x, None, None, 1e-5), wide, rtol=2**-18, atol=2**-20)


def test_quantize_rows_keeps_half_a_step() -> None:
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(5, 96)) * 10.0 ** rng.integers(-20, 20, (5, 1))).astype(np.float32)
    q, d = quantize_rows(x)
    assert np.abs(q).max(-1).tolist() == np.full((5, 3), 127).tolist()
    error = np.abs(x.reshape(5, 3, 32) - q * d[..., None].astype(np.float64))
    # It is off by half a step, plus the rounding of 127 / amax, of its product with x and of d: 4 * 2^-24 of 127 steps.
    assert (error <= d[..., None] * (0.5 + 127 * 4 * 2.0**-24)).all()


def test_quantize_rows_of_odd_blocks() -> None:
    x = np.ones((1, 160), np.float32)
    x[0, 0:32] = 2.0**-101
    x[0, 32] = np.inf
    x[0, 64] = np.nan
    x[0, 96:128] = -np.float32(2.0**-100)
    q, d = quantize_rows(x)
    assert d[0, 0] == 0
    assert np.isnan(d[0, 1:3]).all()
    assert not q[0, :3].any()
    assert (q[0, 3] == -127).all()
    assert (q[0, 4] == 127).all()


def test_rotation_table_is_close_to_the_truth() -> None:
    positions = np.concatenate([np.arange(2000), 2 ** np.arange(11, 21), 2 ** np.arange(11, 21) - 1])
    frequencies = 500000.0 ** (-np.arange(64) / 64)
    angle = np.multiply.outer(positions.astype(np.float64), frequencies)
    cos, sin = rotation_table(positions, frequencies, 1.0)
    # These are float32 rounding of values up to 1, and the float64 angle's own half ulp.
    for got, truth in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        assert np.abs(got - truth).max() <= 2.0**-25 + 2.0**20 * 2.0**-53
    scaled, _ = rotation_table(positions, frequencies, 1.25)
    np.testing.assert_allclose(scaled, 1.25 * cos.astype(np.float64), rtol=2**-22)


def test_layouts_rotate_the_same_pairs() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 2, 10)).astype(np.float32)
    cos, sin = rotation_table(np.arange(3), [1.0, 0.3, 0.01, 0.002], 1.0)
    neox_order = [0, 2, 4, 6, 1, 3, 5, 7, 8, 9]
    interleaved = rotate(x, cos, sin, interleaved=True)
    np.testing.assert_array_equal(rotate(x[..., neox_order], cos, sin, interleaved=False), interleaved[..., neox_order])
    np.testing.assert_array_equal(interleaved[..., 8:], x[..., 8:])
    as_complex = x[..., 0:8:2] + 1j * x[..., 1:8:2]
    turned = as_complex * (cos + 1j * sin)[:, None, :]
    np.testing.assert_allclose(interleaved[..., 0:8:2], turned.real, atol=2**-21)
    np.testing.assert_allclose(interleaved[..., 1:8:2], turned.imag, atol=2**-21)


def test_tanh_is_near_the_true_one() -> None:
    x = np.concatenate([np.linspace(-12, 12, 100001), [0.625, -0.625, 1e-30, -1e-30, 3e38]]).astype(np.float32)
    true = np.tanh(x.astype(np.float64))
    np.testing.assert_allclose(tanh32(x), true, rtol=2e-7)
    np.testing.assert_array_equal(tanh32(-x), -tanh32(x))
    special = tanh32(np.array([np.inf, -np.inf, np.nan, -0.0], np.float32))
    np.testing.assert_array_equal(special, [1, -1, np.nan, 0])


def test_log_is_near_the_true_one() -> None:
    x = np.concatenate([np.arange(1, 5000), 2.0 ** np.arange(60), [0.1, 0.7071, 1e300, 5e-324]])
    np.testing.assert_allclose(log64(x), [math.log(v) for v in x], rtol=4e-16, atol=1e-16)


def test_layer_norm_is_near_the_true_one() -> None:
    rng = np.random.default_rng(5)
    x, w, b = (rng.normal(3, 2, size=(4, 37)).astype(np.float32), *rng.normal(size=(2, 37)).astype(np.float32))
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.1) * w
    np.testing.assert_allclose(layer_norm(x, w, None, 0.1), want, atol=2e-6)
    np.testing.assert_allclose(layer_norm(x, w, b, 0.1), want + b, atol=2e-6)
