"""What holds for any logits and any settings, on every SIMD level."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llamaq import _core
from llamaq.sampling import SAMPLER_LETTERS, Sampler, SamplingParams

LETTERS = "".join(set(SAMPLER_LETTERS) - {"a"})


@st.composite
def any_logits(draw: st.DrawFn) -> NDArray[np.float32]:
    """Few that hypothesis chose, or many with equal ones, peaks, or ones without a chance among them."""
    if draw(st.booleans()):
        values = draw(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
        return np.array(values, np.float32)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal(draw(st.integers(1, 6000))) * draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 40.0]))
    if draw(st.booleans()):
        x = np.round(x)
    if draw(st.booleans()):
        x[rng.random(len(x)) < 0.5] = -np.inf
        x[0] = 0.0
    return x.astype(np.float32)


any_settings = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.05, 5),
        "top_k": st.integers(0, 300),
        "top_p": st.floats(0, 1),
        "min_p": st.floats(0, 1),
        "typical_p": st.floats(0, 1),
        "top_n_sigma": st.floats(-1, 4),
        "xtc_probability": st.floats(0, 1),
        "xtc_threshold": st.floats(0, 0.6),
        "repeat_penalty": st.floats(0.5, 2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "dry_multiplier": st.floats(0, 2),
        "dynatemp_range": st.floats(0, 2),
        "mirostat": st.sampled_from([0, 0, 0, 1, 2]),
        "adaptive_target": st.sampled_from([-1.0, -1.0, 0.2, 0.9]),
        "min_keep": st.integers(0, 5),
        "samplers": st.text(LETTERS, max_size=12),
        "seed": st.integers(0, 2**32 - 1),
    }
)


@given(logits=any_logits(), chosen=any_settings, forbidden=st.integers(0, 10))
def test_a_distribution_remains_and_nothing_else_is_drawn(
    logits: NDArray[np.float32], chosen: dict[str, Any], forbidden: int
) -> None:
    bias = {forbidden: -math.inf} if np.delete(logits, forbidden % len(logits)).max(initial=-np.inf) > -np.inf else {}
    sampler = Sampler(SamplingParams(**chosen, logit_bias=bias))
    sampler.feed([1, 2, 3, 1, 2])
    before = logits.copy()
    for _ in range(3):
        token = sampler.sample(logits)
        ids, p = sampler._candidates.ids, sampler._candidates.probabilities
        assert math.fsum(p) == pytest.approx(1)
        assert p[ids.tolist().index(token)] > 0
        assert logits[token] > -np.inf
        assert token not in bias
        assert np.all(np.diff(ids) > 0)
        sampler.accept(token)
    assert np.array_equal(logits, before)


@given(logits=any_logits(), chosen=any_settings)
def test_a_seed_gives_the_same_tokens_again(logits: NDArray[np.float32], chosen: dict[str, Any]) -> None:
    def draw() -> list[int]:
        sampler = Sampler(SamplingParams(**chosen))
        tokens = []
        for _ in range(4):
            tokens.append(sampler.sample(logits))
            sampler.accept(tokens[-1])
        return tokens

    assert draw() == draw()


def shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    p = np.exp(logits.astype(np.float64) - logits.max())
    result: NDArray[np.float64] = p / p.sum()
    return result


def cut(logits: NDArray[np.float32], how: Callable[[_core.Candidates], None]) -> NDArray[np.int32]:
    candidates = _core.Candidates()
    candidates.load(logits)
    how(candidates)
    return candidates.ids


@given(logits=any_logits(), p=st.floats(0, 0.999), least=st.integers(0, 3))
def test_top_p_takes_the_fewest_that_reach_it(logits: NDArray[np.float32], p: float, least: int) -> None:
    kept = cut(logits, lambda c: c.top_p(p, least))
    order = np.lexsort((np.arange(len(logits)), -logits))
    assert sorted(order[: len(kept)].tolist()) == kept.tolist()
    share = np.cumsum(shares(logits)[order])
    assert share[len(kept) - 1] >= p - 1e-5
    assert len(kept) <= max(1, least) or share[len(kept) - 2] < p + 1e-5
    assert len(kept) >= min(least, int(np.count_nonzero(logits > -np.inf)))


@given(logits=any_logits(), p=st.floats(0, 0.999), least=st.integers(0, 3))
def test_typical_takes_the_fewest_of_average_surprise(logits: NDArray[np.float32], p: float, least: int) -> None:
    kept = cut(logits, lambda c: c.typical(p, least))
    probability = shares(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = -np.log(probability)
        entropy = np.nansum(probability * surprise)
    far = np.abs(surprise - entropy)
    assert probability[kept].sum() >= p - 1e-5
    others = np.setdiff1d(np.arange(len(logits)), kept)
    assert len(others) == 0 or far[kept].max() <= far[others].min() + 1e-3
    if len(kept) > max(1, least):
        assert probability[kept].sum() - probability[kept][far[kept] >= far[kept].max() - 1e-3].sum() < p + 1e-5


@given(logits=any_logits(), p=st.floats(0.001, 1), n=st.floats(0.1, 4))
def test_bounds_are_bounds(logits: NDArray[np.float32], p: float, n: float) -> None:
    for kept, bound in [
        (cut(logits, lambda c: c.min_p(p, 0)), float(logits.max()) + math.log(p)),
        (cut(logits, lambda c: c.top_n_sigma(n)), logits.max() - n * np.std(logits[logits > -np.inf].astype(float))),
    ]:
        assert logits[kept].min() >= bound - 1e-4
        others = np.delete(logits, kept)
        assert others.max(initial=-np.inf) < bound + 1e-4


@given(logits=any_logits(), changes=st.lists(st.tuples(st.integers(0, 6000), st.floats(-50, 50, width=32)), max_size=8))
def test_the_greatest_is_known_after_every_change(
    logits: NDArray[np.float32], changes: list[tuple[int, float]]
) -> None:
    candidates = _core.Candidates()
    candidates.load(logits)
    for token, logit in changes:
        candidates.set([token % len(logits)], np.float32([logit]))
        candidates.scale(0.9)
        assert candidates.top == candidates.logits.max()
    candidates.top_p(0.7, 0)
    assert candidates.top == candidates.logits.max()
    assert candidates.most_likely(1)[0] == candidates.ids[candidates.logits.argmax()]


@pytest.mark.parametrize("isa", _core.isas())
@settings(max_examples=30)
@given(logits=any_logits())
def test_every_level_gives_the_same_bits(isa: str, logits: NDArray[np.float32]) -> None:
    def values(level: str) -> tuple[bytes, float, list[int]]:
        candidates = _core.Candidates(level)
        candidates.load(logits)
        return candidates.probabilities.tobytes(), candidates.entropy, [candidates.pick(u / 8) for u in range(8)]

    assert values(isa) == values("scalar")


def test_every_machine_gives_the_same_bits() -> None:
    x = (np.arange(5000, dtype=np.int64) * 7919 % 5003).astype(np.float32) / np.float32(200)
    candidates = _core.Candidates()
    candidates.load(x)
    values = [
        candidates.entropy,
        candidates.log_total,
        _core.log(0.3),
        _core.log(1e9),
        _core.exp(-0.7),
        _core.exp(50.3),
    ]
    candidates.scale(0.8)
    candidates.typical(0.8, 0)
    got = hashlib.sha256(np.array(values).tobytes() + candidates.probabilities.tobytes() + candidates.ids.tobytes())
    assert got.hexdigest() == "0fb342bc27bc66a2587bbb94b8f74024ec0cf0526c1019868a4eef5a2559d4f8"


@given(logits=any_logits())
def test_probabilities_and_entropy_are_those_of_numpy(logits: NDArray[np.float32]) -> None:
    candidates = _core.Candidates()
    candidates.load(logits)
    want = shares(logits)
    np.testing.assert_allclose(candidates.probabilities, want, rtol=1e-5, atol=1e-12)
    positive = want[want > 0]
    assert candidates.entropy == pytest.approx(-float(np.sum(positive * np.log(positive))), rel=1e-5, abs=1e-6)
    assert candidates.log_total == pytest.approx(
        float(logits.max()) + math.log(np.exp(logits.astype(float) - logits.max()).sum()), rel=1e-6, abs=1e-6
    )


@given(x=st.floats(1e-300, 1e300), y=st.floats(-700, 700))
def test_log_and_exp_are_exact_to_the_last_bits(x: float, y: float) -> None:
    assert _core.log(x) == pytest.approx(math.log(x), rel=4e-16, abs=1e-16)
    assert _core.exp(y) == pytest.approx(math.exp(y), rel=4e-16)


def test_log_and_exp_at_their_ends() -> None:
    assert (_core.log(0.0), _core.log(math.inf), _core.exp(-1e4), _core.exp(1e4)) == (-math.inf, math.inf, 0, math.inf)
    assert math.isnan(_core.log(-1.0))
    assert math.isnan(_core.exp(math.nan))
    assert (_core.log(1.0), _core.exp(0.0)) == (0.0, 1.0)


@given(tokens=st.lists(st.integers(0, 2), max_size=40))
def test_repeats_are_what_comparing_all_pairs_gives(tokens: list[int]) -> None:
    want = []
    for i in range(len(tokens)):
        n = 0
        while n <= i and tokens[i - n] == tokens[len(tokens) - 1 - n]:
            n += 1
        want.append(n)
    assert _core.repeats(np.array(tokens, np.int32)).tolist() == want


def test_the_share_that_is_drawn_is_found_at_every_place() -> None:
    candidates = _core.Candidates()
    candidates.load(np.log(np.arange(1, 2001, dtype=np.float64)).astype(np.float32))
    ends = np.cumsum(candidates.probabilities)
    for u in [0.0, 0.25, 0.5, 0.999999, 1 - 2**-53, *(float(end) + d for end in ends[::97] for d in (-1e-9, 1e-9))]:
        assert candidates.pick(u) == min(int(np.searchsorted(ends, u, side="right")), 1999)
