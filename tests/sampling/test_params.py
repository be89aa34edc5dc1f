"""The settings of sampling: forms, ranges, copies."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llamaq.sampling import SamplingParams


def test_orders_are_read_in_every_form() -> None:
    names = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
    assert SamplingParams().samplers == names
    for form in (
        "edskypmxt",
        ";".join(names),
        list(names),
        "penalties;dry;top-nsigma;TOP-K;typical;nucleus;min_p;xtc;temp",
    ):
        assert SamplingParams(samplers=form).samplers == names
    assert SamplingParams(samplers="top_k").samplers == ("top_k",)
    for wrong, name in [("ezk", "'z'"), ("top_k;tfs", "'tfs'"), (["infill"], "'infill'")]:
        with pytest.raises(ValueError, match=name):
            SamplingParams(samplers=wrong)


def test_settings_of_several_answers() -> None:
    assert SamplingParams(seed=7).nth(2) == SamplingParams(seed=9)
    assert SamplingParams().nth(2).seed is None
    assert hash(SamplingParams(logit_bias={1: 2.0})) == hash(SamplingParams())
    with pytest.raises(TypeError):
        SamplingParams(0.5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": math.nan},
        {"typical_p": 1.1},
        {"top_n_sigma": math.nan},
        {"xtc_probability": -0.1},
        {"xtc_threshold": 2.0},
        {"presence_penalty": math.inf},
        {"frequency_penalty": math.nan},
        {"dry_multiplier": -1.0},
        {"dry_base": 0.5},
        {"dry_allowed_length": 0},
        {"dry_penalty_last_n": -2},
        {"dynatemp_range": -1.0},
        {"dynatemp_exponent": -1.0},
        {"mirostat": 3},
        {"mirostat": -1},
        {"mirostat_tau": math.inf},
        {"mirostat_eta": -0.1},
        {"adaptive_target": 1.1},
        {"adaptive_decay": 1.0},
        {"min_keep": -1},
        {"min_tokens": -1},
        {"logprobs": -1},
        {"seed": -1},
        {"logit_bias": {-1: 0.0}},
        {"logit_bias": {1: math.nan}},
        {"logit_bias": {1: math.inf}},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParams(**wrong)
