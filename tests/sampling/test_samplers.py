"""Each sampler against probabilities worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from candidates import candidates
from llamaq.errors import ModelError, SamplingError
from llamaq.gguf import GGUFFile
from llamaq.sampling import Sampler, SamplingParams
from llamaq.tokenizer import Tokenizer, load_tokenizer

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def logits_of(*weights: float) -> NDArray[np.float32]:
    return np.log(np.array(weights)).astype(np.float32)


TENTHS = logits_of(1, 4, 2, 3)  # probabilities 0.1, 0.4, 0.2, 0.3


def sampler_of(history: list[int] | None = None, tokenizer: Tokenizer | None = None, **params: Any) -> Sampler:
    sampler = Sampler(SamplingParams(**{**OFF, **params}), tokenizer)
    sampler.feed(history or [])
    return sampler


def left(logits: NDArray[np.float32], history: list[int] | None = None, **params: Any) -> dict[int, float]:
    """What the chain leaves, the most likely first."""
    return candidates(sampler_of(history, **params), logits)


def shares(**weights: float) -> dict[int, float]:
    """``_3=2, _1=1`` is {3: 2/3, 1: 1/3}."""
    return {int(name[1:]): weight / sum(weights.values()) for name, weight in weights.items()}


def same(got: dict[int, float], want: dict[int, float]) -> bool:
    return list(got) == list(want) and list(got.values()) == pytest.approx(list(want.values()), rel=1e-5)


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


# The entropy of TENTHS is 1.280 nats, the surprises 2.303, 0.916, 1.609, 1.204: token 3 is the most typical, then 2, 1.
@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"typical_p": 0.25}, shares(_3=3)),
        ({"typical_p": 0.4}, shares(_3=3, _2=2)),
        ({"typical_p": 0.6}, shares(_1=4, _3=3, _2=2)),
        ({"typical_p": 0.95}, shares(_1=4, _3=3, _2=2, _0=1)),
        ({"typical_p": 0.0}, shares(_3=3)),
        ({"typical_p": 0.25, "min_keep": 2}, shares(_3=3, _2=2)),
        ({"top_k": 2, "typical_p": 0.3}, shares(_1=4)),  # 4/7 and 3/7 have entropy 0.683, surprises 0.560 and 0.847
        ({"top_p": 0.39, "min_keep": 3}, shares(_1=4, _3=3, _2=2)),
        ({"min_p": 0.76, "min_keep": 2}, shares(_1=4, _3=3)),
        ({"min_p": 0.51, "min_keep": 1}, shares(_1=4, _3=3)),
    ],
)
def test_typical_and_min_keep(settings: dict[str, Any], want: dict[int, float]) -> None:
    assert same(left(TENTHS, **settings), want)


@pytest.mark.parametrize(
    ("logits", "n", "want"),
    [
        ([0, 1, 2, 3, 4], 1.0, [4, 3]),  # mean 2, deviation 1.414: the bound is 2.586
        ([0, 1, 2, 3, 4], 2.0, [4, 3, 2]),
        ([0, 1, 2, 3, 4], 3.0, [4, 3, 2, 1, 0]),
        ([0, 1, 2, 3, 4], 0.0, [4, 3, 2, 1, 0]),  # it is off
        ([0, 1, 2, 3, 4], 0.1, [4]),
        ([-math.inf, 0, 2], 0.9, [2]),  # a forbidden token does not count: mean 1, deviation 1
        ([-math.inf, 0, 2], 2.1, [2, 1]),
        ([5, 5, 5], 1.0, [0, 1, 2]),  # deviation 0
        ([7], 1.0, [0]),
    ],
)
def test_top_n_sigma(logits: list[float], n: float, want: list[int]) -> None:
    assert list(left(np.array(logits, np.float32), top_n_sigma=n)) == want


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"xtc_threshold": 0.15}, shares(_2=2, _0=1)),  # 1, 3 and 2 reach it; the last of them stays
        ({"xtc_threshold": 0.25}, shares(_3=3, _2=2, _0=1)),
        ({"xtc_threshold": 0.05}, shares(_0=1)),
        ({"xtc_threshold": 0.35}, shares(_1=4, _3=3, _2=2, _0=1)),  # one alone stays
        ({"xtc_threshold": 0.45}, shares(_1=4, _3=3, _2=2, _0=1)),
        ({"xtc_threshold": 0.51}, shares(_1=4, _3=3, _2=2, _0=1)),  # it is off
        ({"xtc_threshold": 0.15, "xtc_probability": 0.0}, shares(_1=4, _3=3, _2=2, _0=1)),
        ({"xtc_threshold": 0.15, "min_keep": 2}, shares(_2=2, _0=1)),
        ({"xtc_threshold": 0.15, "min_keep": 3}, shares(_1=4, _3=3, _2=2, _0=1)),
    ],
)
def test_xtc(settings: dict[str, Any], want: dict[int, float]) -> None:
    assert same(left(TENTHS, **{"xtc_probability": 1.0, **settings}), want)


def test_xtc_of_equal_tokens_keeps_the_last() -> None:
    assert same(left(logits_of(1, 1, 1, 1), xtc_probability=1.0, xtc_threshold=0.2), shares(_3=1))


def test_xtc_comes_by_chance() -> None:
    sampler = sampler_of(xtc_probability=0.25, xtc_threshold=0.15, seed=5)
    hits = sum(len(candidates(sampler, TENTHS)) == 2 for _ in range(2000))
    assert hits / 2000 == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
    ("settings", "power"),
    [
        ({"dynatemp_range": 0.5}, 1 / (0.5 + 0.923219)),  # the entropy is 0.923219 of log 4
        ({"dynatemp_range": 0.5, "dynatemp_exponent": 2.0}, 1 / (0.5 + 0.923219**2)),
        ({"dynatemp_range": 0.5, "dynatemp_exponent": 0.0}, 1 / 1.5),
        ({"dynatemp_range": 0.5, "temperature": 0.3}, 1 / (0.8 * 0.923219)),  # the temperature is not below 0
    ],
)
def test_dynamic_temperature(settings: dict[str, Any], power: float) -> None:
    assert same(left(TENTHS, **settings), shares(_1=4**power, _3=3**power, _2=2**power, _0=1))


def test_dynamic_temperature_of_few() -> None:
    assert same(left(logits_of(1, 1), dynatemp_range=0.5), shares(_0=1, _1=1))
    assert same(left(np.array([3.0], np.float32), dynatemp_range=0.5), {0: 1.0})
    certain = np.array([-200.0, 0.0], np.float32)  # there is no entropy, so the temperature is the lowest
    assert same(left(certain, dynatemp_range=5.0), {1: 1.0})


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"repeat_penalty": 2.0}, [1.0, -2.0, 0.0, 2.0]),
        ({"presence_penalty": 0.25}, [1.75, -1.25, 0.0, 2.0]),
        ({"frequency_penalty": 0.5}, [1.0, -1.5, 0.0, 2.0]),
        ({"repeat_penalty": 2.0, "presence_penalty": 0.25, "frequency_penalty": 0.5}, [-0.25, -2.75, 0.0, 2.0]),
        ({"frequency_penalty": -0.5}, [3.0, -0.5, 0.0, 2.0]),
        ({"frequency_penalty": 0.5, "repeat_last_n": 2}, [1.5, -1.5, 0.0, 2.0]),
        ({"frequency_penalty": 0.5, "repeat_last_n": -1}, [1.0, -1.5, 0.0, 2.0]),
        ({"frequency_penalty": 0.5, "repeat_last_n": 0}, [2.0, -1.0, 0.0, 2.0]),
    ],
)
def test_penalties(settings: dict[str, Any], want: list[float]) -> None:
    got = left(np.array([2.0, -1.0, 0.0, 2.0], np.float32), [0, 0, 1], **settings)
    total = sum(math.exp(x) for x in want)
    assert [got[i] for i in range(4)] == pytest.approx([math.exp(x) / total for x in want], rel=1e-5)


@pytest.mark.parametrize(
    ("history", "settings", "want"),
    [
        ([5, 2, 9, 5, 2], {}, {9: 0.8}),  # 9 would prolong "5 2"
        ([5, 2, 3, 9, 5, 2, 3], {}, {9: 0.8 * 1.75}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_allowed_length": 3}, {9: 0.8}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_allowed_length": 4}, {}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_penalty_last_n": 6}, {9: 0.8}),  # it sees "2 3 9 5 2 3"
        ([5, 2, 3, 9, 5, 2, 3], {"dry_penalty_last_n": -1}, {9: 0.8 * 1.75}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_penalty_last_n": 0}, {}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_base": 1.0}, {9: 0.8}),
        ([5, 2, 3, 9, 5, 2, 3], {"dry_multiplier": 0.0}, {}),
        ([5, 2, 9, 4, 5, 2, 8, 5, 2], {}, {9: 0.8, 8: 0.8}),
        ([3, 5, 2, 9, 5, 2, 9, 3, 5, 2], {}, {9: 0.8 * 1.75}),  # the longer of two lengths counts
        ([7, 7, 7, 7], {}, {7: 0.8 * 1.75}),  # three are before the last
        ([1, 2, 3], {}, {}),
        ([], {}, {}),
    ],
)
def test_dry(history: list[int], settings: dict[str, Any], want: dict[int, float]) -> None:
    got = left(np.zeros(10, np.float32), history, **{"dry_multiplier": 0.8, **settings})
    assert {id: -math.log(p / max(got.values())) for id, p in got.items() if p < max(got.values())} == pytest.approx(
        want, rel=1e-4
    )


def test_dry_stays_a_number() -> None:
    ids = left(np.zeros(10, np.float32), [1, 2] * 500, dry_multiplier=1.0, dry_base=4.0, dry_penalty_last_n=-1)
    assert set(ids) == set(range(10)) - {1}


def test_dry_stops_at_breakers(tokenizer: Tokenizer) -> None:
    def penalized(text: str, **settings: Any) -> set[str]:
        ids = tokenizer.encode(text, add_special=False, continuation=True)
        sampler = sampler_of(ids, tokenizer, dry_multiplier=5.0, **settings)
        got = candidates(sampler, np.zeros(tokenizer.n_vocab, np.float32))
        return {tokenizer.decode([id], continuation=True) for id, p in got.items() if p < max(got.values()) / 2}

    assert penalized("x1y2z1y") == {"2"}
    assert penalized("x:y2z:y") == set()  # the colon ends what repeats
    assert penalized("x:y2z:y", dry_sequence_breakers=[]) == {"2"}
    assert penalized("x1y2z1y", dry_sequence_breakers=["1y"]) == set()  # the breaker has two tokens
    assert penalized("x1y2z1y", dry_sequence_breakers=["1z"]) == {"2"}
    assert penalized("1y:z1y") == set()  # a breaker is not penalized


def test_mirostat_2_cuts_by_surprise_and_learns() -> None:
    # In bits the surprises are 3.32, 1.32, 2.32, 1.74; at first up to 2 tau are allowed.
    for tau, want in [(0.5, shares(_1=1)), (1.0, shares(_1=4, _3=3)), (1.5, shares(_1=4, _3=3, _2=2))]:
        assert same(left(TENTHS, mirostat=2, mirostat_tau=tau, top_k=1), want)
    sampler = sampler_of(mirostat=2, mirostat_tau=1.0, seed=0)
    token = sampler.sample(TENTHS)
    selector: Any = sampler._chain.selector
    assert selector.mu == 2.0
    sampler.accept(token)
    assert selector.mu == pytest.approx(2.0 - 0.1 * (math.log2(7 / {1: 4, 3: 3}[token]) - 1.0))
    before = selector.mu
    sampler.accept(token)  # it was forced, not drawn
    assert selector.mu == before


def test_mirostat_1_estimates_k() -> None:
    n = np.arange(1, 101)
    # p ~ 1/i^2: s = 2, so k = sqrt(2^mu / (1 - 1/100)), for mu = 6 it is 8.04.
    assert len(left(logits_of(*(1 / n**2)), mirostat=1, mirostat_tau=3.0)) == 8
    # p ~ 1/i: s = 1, so k = 2^mu / log 100, for mu = 6 it is 13.9.
    assert len(left(logits_of(*(1 / n)), mirostat=1, mirostat_tau=3.0)) == 13
    assert len(left(logits_of(*(1 / n**2)), mirostat=1, mirostat_tau=0.0)) == 1
    assert len(left(logits_of(1, 1, 1, 1), mirostat=1)) == 4  # there is no slope: any number will do
    assert left(np.array([3.0], np.float32), mirostat=1) == {0: 1.0}


def test_mirostat_takes_the_place_of_the_chain_but_the_temperature() -> None:
    settings = {"mirostat": 2, "mirostat_tau": 3.0, "top_k": 1, "min_p": 0.9, "repeat_penalty": 2.0}
    assert same(left(TENTHS, [1], **settings, temperature=0.5), shares(_1=16, _3=9, _2=4, _0=1))


def test_adaptive_p_prefers_the_target_and_moves_it() -> None:
    sampler = sampler_of(adaptive_target=0.3, seed=3)
    # At 0.3 the logit is 5; 0.1 away it is 5 - 10 / 9 / (4 / 3), 0.2 away 5 - 10 * 4 / 9 / (5 / 3).
    near, far = math.exp(-5 / 6), math.exp(-8 / 3)
    assert same(candidates(sampler, TENTHS), shares(_3=1, _1=near, _2=near, _0=far))
    token = sampler.sample(TENTHS)
    sampler.accept(token)
    p = {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}[token]
    target = 2 * 0.3 - (p + 0.9 * 3) / 10  # the average that it had counts as ten tokens
    d = [abs(q - target) / 0.3 for q in (0.1, 0.4, 0.2, 0.3)]
    weights = [math.exp(5 - 10 * x * x / (1 + x)) for x in d]
    got = candidates(sampler, TENTHS)
    assert [got[i] for i in range(4)] == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)


def test_adaptive_p_comes_last_and_forbids_what_is_forbidden() -> None:
    got = left(TENTHS, adaptive_target=0.3, top_k=3, logit_bias={3: -math.inf}, samplers="adaptive_p;top_k")
    assert set(got) == {0, 1, 2}
    assert set(left(TENTHS, adaptive_target=0.3, top_k=2)) == {1, 3}


@pytest.mark.parametrize(
    ("bias", "want"),
    [
        ({0: math.log(6)}, shares(_0=6, _1=4, _3=3, _2=2)),
        ({1: -math.inf}, shares(_3=3, _2=2, _0=1)),
        ({1: -math.inf, 0: math.log(2), 9999: 5.0}, shares(_3=3, _0=2, _2=2)),
    ],
)
def test_logit_bias(bias: dict[int, float], want: dict[int, float]) -> None:
    assert same(left(TENTHS, logit_bias=bias), want)


def test_ends_can_be_kept_away(tokenizer: Tokenizer) -> None:
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    end = next(iter(tokenizer.eog_ids))
    logits[end] = 50.0
    assert sampler_of(tokenizer=tokenizer).sample(logits) == end
    assert sampler_of(tokenizer=tokenizer, ignore_eos=True).sample(logits) != end
    sampler = sampler_of([5, 5, 5], tokenizer, min_tokens=2)  # the prompt does not count
    for _ in range(2):
        token = sampler.sample(logits)
        assert token not in tokenizer.eog_ids
        sampler.accept(token)
    assert sampler.sample(logits) == end
    for settings in ({"min_tokens": 1}, {"ignore_eos": True}):
        with pytest.raises(ValueError, match="tokenizer"):
            sampler_of(**settings)


def test_forbidding_everything_is_an_error() -> None:
    with pytest.raises(SamplingError, match="no token is left"):
        sampler_of(logit_bias=dict.fromkeys(range(4), -math.inf)).sample(TENTHS)


def test_logit_processors_change_or_replace() -> None:
    seen = []

    def in_place(ids: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        seen.append(ids.tolist())
        logits[1] = -np.inf

    def replaced(ids: NDArray[np.int32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return logits + np.float32(0.0) if logits[1] == -np.inf else logits[:2]

    original = TENTHS.copy()
    settings = {"logit_processors": [in_place, replaced], "logit_bias": {0: math.log(2)}}
    assert same(left(TENTHS, [7, 8], **settings), shares(_3=3, _0=2, _2=2))
    assert seen == [[7, 8]]
    assert np.array_equal(TENTHS, original)
    with pytest.raises(ValueError, match=r"shape \(4,\), got \(2,\)"):
        left(TENTHS, logit_processors=[replaced])
    with pytest.raises(ModelError, match="not numbers"):
        left(TENTHS, logit_processors=[lambda ids, logits: logits * np.float32(np.nan)])


def test_log_probabilities_are_the_models_own() -> None:
    def forbid(ids: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
        logits[1] = -np.inf

    sampler = sampler_of(logprobs=2, temperature=0.1, top_k=1, logit_bias={0: 99.0}, logit_processors=[forbid])
    token = sampler.sample(TENTHS)
    assert token == 0
    assert sampler.logprob(token) == pytest.approx(math.log(0.1), rel=1e-6)
    top = sampler.top_logprobs()
    assert [id for id, _ in top] == [1, 3]
    assert [p for _, p in top] == pytest.approx([math.log(0.4), math.log(0.3)], rel=1e-6)
    none = sampler_of(logprobs=0)
    none.sample(TENTHS)
    assert none.logprob(1) == pytest.approx(math.log(0.4), rel=1e-6)
    assert none.top_logprobs() == []
    off = sampler_of()
    off.sample(TENTHS)
    assert (off.logprob(1), off.top_logprobs()) == (None, [])


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"samplers": "kp", "top_k": 2, "top_p": 0.5}, shares(_1=1)),  # 4/7 and 3/7 are left
        ({"samplers": "pk", "top_k": 2, "top_p": 0.5}, shares(_1=4, _3=3)),
        ({"samplers": "mt", "temperature": 2.0, "min_p": 0.6}, shares(_1=2, _3=3**0.5)),
        ({"samplers": "tm", "temperature": 2.0, "min_p": 0.6}, shares(_1=2, _3=3**0.5, _2=2**0.5)),
        ({"samplers": "k", "top_k": 3, "temperature": 9.0, "top_p": 0.1}, shares(_1=4, _3=3, _2=2)),
        ({"samplers": "", "top_k": 1, "temperature": 9.0}, shares(_1=4, _3=3, _2=2, _0=1)),
        ({"samplers": ["temperature", "temperature"], "temperature": 0.5}, shares(_1=256, _3=81, _2=16, _0=1)),
        ({"samplers": "ke", "top_k": 3, "presence_penalty": math.log(8)}, shares(_3=3, _2=2, _1=0.5)),
        ({"samplers": "ek", "top_k": 3, "presence_penalty": math.log(8)}, shares(_3=3, _2=2, _0=1)),
    ],
)
def test_the_order_is_as_stated(settings: dict[str, Any], want: dict[int, float]) -> None:
    assert same(left(TENTHS, [1], **settings), want)
