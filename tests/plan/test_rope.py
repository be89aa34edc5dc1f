"""Frequencies against exact arithmetic, and scaling against a binary64 transcription of the papers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from llamaq.plan.rope import Rope, YaRN, make_rope


def plain(dims: int, base: float) -> np.ndarray:
    return base ** (-np.arange(0, dims, 2) / dims)


def yarn64(dims: int, base: float, factor: float, original: int, fast: float = 32.0, slow: float = 1.0) -> np.ndarray:
    """Section 3.2 of the YaRN paper, with llama.cpp's rounding of the bounds to whole pairs."""

    def pair(turns: float) -> float:
        return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(0, math.floor(pair(fast))), min(dims - 1, math.ceil(pair(slow)))
    ramp = np.clip((np.arange(dims // 2) - low) / max(0.001, high - low), 0, 1)
    return plain(dims, base) * (ramp / factor + (1 - ramp))


def test_frequencies_of_the_first_paper() -> None:
    assert make_rope(8, 10000.0) == Rope((1.0, 0.1, 0.01, 0.001), 1.0, "norm")
    assert make_rope(8, 10000.0).dims == 8


@pytest.mark.parametrize("base", [10000.0, 500000.0, 1000000.0, 26000.123046875])
def test_frequencies_are_rounded_to_the_last_bit(base: float) -> None:
    dims = 16
    for i, f in enumerate(make_rope(dims, base).frequencies):
        half = Fraction(math.ulp(f)) / 2
        truth = Fraction(base) ** (-2 * i)  # the dims-th power of the true frequency
        assert (Fraction(f) - half) ** dims <= truth <= (Fraction(f) + half) ** dims


def test_linear_scaling_and_divisors() -> None:
    rope = make_rope(64, 10000.0, factor=4.0)
    np.testing.assert_allclose(rope.frequencies, plain(64, 10000.0) / 4, rtol=1e-15)
    divisors = np.linspace(1, 8, 32).astype(np.float32)
    rope = make_rope(64, 500000.0, divisors=divisors.tolist())
    np.testing.assert_allclose(rope.frequencies, plain(64, 500000.0) / divisors, rtol=1e-15)
    rope = make_rope(64, 500000.0, factor=2.0, divisors=divisors.tolist(), layout="neox")
    np.testing.assert_allclose(rope.frequencies, plain(64, 500000.0) / divisors / 2, rtol=1e-15)
    assert rope.layout == "neox"


@pytest.mark.parametrize(
    ("dims", "base", "factor", "original"),
    [(128, 1e6, 4.0, 32768), (128, 10000.0, 16.0, 4096), (64, 150000.0, 32.0, 4096), (8, 10000.0, 2.0, 64)],
)
def test_yarn(dims: int, base: float, factor: float, original: int) -> None:
    rope = make_rope(dims, base, factor=factor, yarn=YaRN(original))
    np.testing.assert_allclose(rope.frequencies, yarn64(dims, base, factor, original), rtol=1e-14)
    assert rope.attention_factor == pytest.approx(1 + 0.1 * math.log(factor), rel=1e-15)
    assert rope.frequencies[0] == 1.0  # the fastest pair is never stretched
    slowest = plain(dims, base)[-1]
    assert slowest / factor * (1 - 1e-14) <= rope.frequencies[-1] < slowest


def test_yarn_parameters() -> None:
    betas = make_rope(128, 1e6, factor=4.0, yarn=YaRN(32768, beta_fast=16.0, beta_slow=2.0))
    np.testing.assert_allclose(betas.frequencies, yarn64(128, 1e6, 4.0, 32768, 16.0, 2.0), rtol=1e-14)
    linear = make_rope(128, 1e6, factor=4.0, yarn=YaRN(32768, extrapolation=0.0))
    assert linear == make_rope(128, 1e6, factor=4.0)
    cancelled = make_rope(128, 1e6, factor=4.0, yarn=YaRN(32768, log_multiplier=1.0))
    assert cancelled.attention_factor == 1.0
    scaled = make_rope(128, 1e6, factor=4.0, yarn=YaRN(32768), attention_factor=0.5)
    assert scaled.attention_factor == pytest.approx(0.5 * (1 + 0.1 * math.log(4)), rel=1e-15)
    assert make_rope(128, 1e6, factor=0.5, yarn=YaRN(32768)).attention_factor == 1.0


def test_yarn_where_every_pair_is_slow() -> None:
    rope = make_rope(8, 10000.0, factor=2.0, yarn=YaRN(1))
    np.testing.assert_allclose(rope.frequencies, plain(8, 10000.0) / [1, 2, 2, 2], rtol=1e-3)


def test_yarn_with_divisors_stretches_the_divided_frequencies() -> None:
    divisors = [1.0] * 32 + [8.0] * 32
    rope = make_rope(128, 500000.0, factor=4.0, yarn=YaRN(8192), divisors=divisors)
    np.testing.assert_allclose(rope.frequencies, yarn64(128, 5e5, 4.0, 8192) / divisors, rtol=1e-14)


def test_a_decimal_context_of_the_caller_does_not_matter() -> None:
    import decimal

    expected = make_rope(64, 10000.0, factor=3.0, yarn=YaRN(4096))
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert make_rope(64, 10000.0, factor=3.0, yarn=YaRN(4096)) == expected
