"""Sampling against probabilities worked out by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from candidates import candidates
from llamaq import _core
from llamaq.errors import ModelError
from llamaq.sampling import Sampler, SamplingParams

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Every sampler off: plain softmax."""


def logits_of(*weights: float) -> NDArray[np.float32]:
    """Logits whose softmax is proportional to ``weights``."""
    return np.log(np.array(weights)).astype(np.float32)


def left(logits: NDArray[np.float32], history: list[int] | None = None, **params: object) -> dict[int, float]:
    """The probabilities that the chain leaves, in its order."""
    sampler = Sampler(SamplingParams(**{**OFF, **params}))
    sampler.feed(history or [])
    return candidates(sampler, logits)


def same(got: dict[int, float], expected: dict[int, float]) -> bool:
    return list(got) == list(expected) and list(got.values()) == pytest.approx(list(expected.values()), rel=1e-6)


TENTHS = logits_of(1, 4, 2, 3)  # probabilities 0.1, 0.4, 0.2, 0.3


def test_everything_off_is_softmax() -> None:
    assert same(left(TENTHS), {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1})
    assert same(left(TENTHS + np.float32(5)), {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1})


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, {1: 1.0}),
        (2, {1: 4 / 7, 3: 3 / 7}),
        (3, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}),
        (4, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
        (99, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
    ],
)
def test_top_k(k: int, expected: dict[int, float]) -> None:
    assert same(left(TENTHS, top_k=k), expected)


def test_top_k_takes_the_lower_id_of_equal_ones() -> None:
    assert same(left(logits_of(1, 2, 2, 2, 1), top_k=2), {1: 0.5, 2: 0.5})
    assert same(left(logits_of(1, 1, 1, 1), top_k=3), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3})


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, {1: 1.0}),
        (0.39, {1: 1.0}),
        (0.41, {1: 4 / 7, 3: 3 / 7}),
        (0.69, {1: 4 / 7, 3: 3 / 7}),
        (0.71, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}),
        (0.95, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
        (1.0, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
    ],
)
def test_top_p_keeps_the_token_that_reaches_it(p: float, expected: dict[int, float]) -> None:
    assert same(left(TENTHS, top_p=p), expected)


def test_top_p_counts_what_top_k_left() -> None:
    # The first of 4/7 and 3/7 reaches 0.5; it would take two of all four.
    assert same(left(TENTHS, top_k=2, top_p=0.5), {1: 1.0})
    assert same(left(TENTHS, top_p=0.5), {1: 4 / 7, 3: 3 / 7})


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
        (0.24, {1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1}),
        (0.26, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}),
        (0.51, {1: 4 / 7, 3: 3 / 7}),
        (0.76, {1: 1.0}),
        (1.0, {1: 1.0}),
    ],
)
def test_min_p_is_a_share_of_the_most_likely(p: float, expected: dict[int, float]) -> None:
    assert same(left(TENTHS, min_p=p), expected)


def test_min_p_of_one_keeps_equal_ones() -> None:
    assert same(left(logits_of(3, 1, 3), min_p=1.0), {0: 0.5, 2: 0.5})


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (0.5, {1: 16 / 30, 3: 9 / 30, 2: 4 / 30, 0: 1 / 30}),  # squares
        (2.0, {1: 2 / 6.1463, 3: 1.7321 / 6.1463, 2: 1.4142 / 6.1463, 0: 1 / 6.1463}),  # square roots
    ],
)
def test_temperature_is_a_power(temperature: float, expected: dict[int, float]) -> None:
    got = left(TENTHS, temperature=temperature)
    assert list(got) == list(expected)
    assert list(got.values()) == pytest.approx(list(expected.values()), abs=1e-4)


def test_temperature_comes_after_the_cuts() -> None:
    # At temperature 100 all are nearly alike, but top-p has seen 0.4 and 0.3 before.
    assert list(left(TENTHS, temperature=100.0, top_p=0.5)) == [1, 3]


def test_a_tiny_temperature_takes_the_first() -> None:
    assert left(TENTHS, temperature=1e-300) == {1: 1.0}


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_greedy_takes_the_lowest_id_of_the_best(temperature: float) -> None:
    sampler = Sampler(SamplingParams(temperature=temperature, top_k=0, top_p=0.1, min_p=0.9))
    assert sampler.sample(logits_of(1, 3, 2, 3)) == 1


def test_repeat_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([2.0, -1.0, 0.0, 2.0], np.float32)
    got = left(logits, [0, 1, 2], repeat_penalty=2.0)
    total = math.e**1 + math.e**-2 + 1 + math.e**2
    assert same(got, {3: math.e**2 / total, 0: math.e / total, 2: 1 / total, 1: math.e**-2 / total})
    assert logits.tolist() == [2.0, -1.0, 0.0, 2.0]


def test_repeat_penalty_counts_a_token_once() -> None:
    assert left(TENTHS, [1, 1, 1], repeat_penalty=1.5) == left(TENTHS, [1], repeat_penalty=1.5)


@pytest.mark.parametrize(("last_n", "best"), [(0, 1), (1, 3), (2, 2), (3, 2), (-1, 2)])
def test_repeat_last_n(last_n: int, best: int) -> None:
    # The likeliest is 1, then 3, then 2; the latest token is 1, the one before 3, the first of all 0.
    logits = np.array([0.5, 4.0, 2.0, 3.0], np.float32)
    sampler = Sampler(SamplingParams(temperature=0, repeat_penalty=10.0, repeat_last_n=last_n))
    sampler.feed([0, 3, 1])
    assert sampler.sample(logits) == best


def test_repeat_penalty_also_holds_for_greedy_and_one_is_off() -> None:
    assert next(iter(left(TENTHS, [1], temperature=0.0))) == 1
    assert next(iter(left(-TENTHS - 2, [0], temperature=0.0, repeat_penalty=9.0))) == 2


def test_defaults_are_llama_cpps() -> None:
    p = SamplingParams()
    assert (p.temperature, p.top_k, p.top_p, p.min_p) == (0.8, 40, 0.95, 0.05)
    assert (p.repeat_penalty, p.repeat_last_n, p.seed) == (1.0, 64, None)


def test_one_seed_gives_one_sequence() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(seed=seed))
        return [sampler.sample(logits_of(*range(1, 30))) for _ in range(20)]

    assert draw(42) == draw(42)
    assert draw(42) != draw(43)


def test_the_sequence_of_a_seed_never_changes() -> None:
    sampler = Sampler(SamplingParams(seed=7, **OFF))
    # random.Random(7) gives 0.324, 0.151, 0.651, 0.072, 0.536, 0.366; by id the shares end at 0.1, 0.5, 0.7, 1.
    assert [sampler.sample(TENTHS) for _ in range(6)] == [1, 1, 2, 0, 2, 1]


def test_a_random_seed_is_told() -> None:
    first = Sampler(SamplingParams())
    again = Sampler(SamplingParams(seed=first.seed))
    logits = logits_of(*range(1, 100))
    assert [first.sample(logits) for _ in range(20)] == [again.sample(logits) for _ in range(20)]


def test_frequencies_follow_the_probabilities() -> None:
    sampler = Sampler(SamplingParams(seed=1, **OFF))
    counts = Counter(sampler.sample(TENTHS) for _ in range(4000))
    assert [counts[i] / 4000 for i in range(4)] == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.03)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logits_that_are_not_numbers_are_an_error(bad: float, temperature: float) -> None:
    logits = TENTHS.copy()
    logits[2] = bad
    with pytest.raises(ModelError, match="not numbers"):
        Sampler(SamplingParams(temperature=temperature)).sample(logits)


def test_minus_infinity_only_forbids_a_token() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], np.float32)
    assert left(logits)[1] == 1.0
    with pytest.raises(ModelError, match="not numbers"):
        Sampler(SamplingParams()).sample(np.full(3, -np.inf, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 1.5},
        {"top_p": -0.1},
        {"min_p": 2.0},
        {"repeat_penalty": 0.0},
        {"repeat_penalty": -1.0},
        {"repeat_last_n": -2},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**wrong)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=60),
    st.integers(0, 70),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.1, 5),
)
def test_whatever_the_settings_a_distribution_remains(
    values: list[float], k: int, top_p: float, min_p: float, temperature: float
) -> None:
    logits = np.array(values, np.float32)
    got = left(logits, top_k=k, top_p=top_p, min_p=min_p, temperature=temperature)
    assert math.fsum(got.values()) == pytest.approx(1.0)
    assert next(iter(got)) == int(logits.argmax())
    kept = [values[i] for i in got]
    assert kept == sorted(kept, reverse=True)


def slow_candidates(logits: NDArray[np.float32], params: SamplingParams) -> list[int]:
    """The same chain over all logits, sorted and exponentiated one by one."""
    ids = sorted(range(len(logits)), key=lambda id: (-logits[id], id))[: params.top_k or None]
    top = float(logits[ids[0]])
    weights = [math.exp(float(logits[id]) - top) for id in ids]
    total, reached = math.fsum(weights), 0.0
    kept: list[int] = []
    for id, weight in zip(ids, weights, strict=True):
        if weight >= params.min_p or not kept:
            kept.append(id)
        reached += weight
        if reached >= params.top_p * total and params.top_p < 1.0:
            break
    return kept


@pytest.mark.parametrize("n", [1, 15, 255, 257, 5000, 32003])
@pytest.mark.parametrize(
    "chain",
    [{}, {"top_k": 1}, {"top_k": 300}, {"top_k": 10**6}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0}, {"min_p": 0.0},
     {"top_k": 0, "min_p": 0.0}, {"top_k": 0, "min_p": 0.0, "top_p": 0.5}, {"top_k": 0, "min_p": 0.0, "top_p": 1.0}],
    ids=str,
)  # fmt: skip
def test_a_large_vocabulary_gives_what_sorting_all_of_it_gives(n: int, chain: dict[str, float]) -> None:
    rng = np.random.default_rng(n)
    params = SamplingParams(temperature=1.0, **chain)
    for logits in (rng.standard_normal(n) * 3, rng.integers(-3, 4, n), np.zeros(n), np.full(n, -np.inf)):
        x = logits.astype(np.float32)
        x[n // 2] = max(x[n // 2], -1.0)
        assert [*candidates(Sampler(params), x)] == [id for id in slow_candidates(x, params) if x[id] > x.max() - 87]


NUMBERS = st.floats(width=32, allow_nan=False) | st.just(math.nan)


@given(values=st.lists(NUMBERS, min_size=1, max_size=1500), k=st.integers(0, 1600))
def test_top_k_of_any_numbers(values: list[float], k: int) -> None:
    x = np.array(values, np.float32)
    want = sorted(np.flatnonzero(~np.isnan(x)).tolist(), key=lambda id: (-x[id], id))[:k]
    assert _core.top_k(x, k).tolist() == want  # NaN has no place
