"""Samplers and structures together: what is drawn, what is forced, and that models keep to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq import LLM
from llamaq.errors import SamplingError, StructureError
from llamaq.sampling import Sampler, SamplingParams
from llamaq.structure import Structure, gbnf, json_schema, lark, regex
from llamaq.tokenizer import Tokenizer
from tiny_models import tiny_model

PERSON = json_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
    }
)


@pytest.fixture(scope="module", params=["stories260K-F32", "babyllama-tok361-pad256-Q4_K"])
def llm(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> Any:
    with LLM.load(shared("models") / f"{request.param}.gguf", threads=1, n_ctx=256) as llm:
        yield llm


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Any:
    with LLM.load(shared("models") / "stories260K-F32.gguf", threads=1, n_ctx=8) as llm:
        yield llm.tokenizer


class Given:
    """Chance is replaced by these shares, in turns."""

    def __init__(self, *shares: float) -> None:
        self._shares = list(shares)

    def random(self) -> float:
        return self._shares.pop(0)


def answers(sampler: Sampler, logits: np.ndarray[Any, Any], steps: int) -> Counter[int]:
    """How often each token comes over a grid of chances, the first one's times the second one's."""
    counts: Counter[int] = Counter()
    for first in range(steps):
        for second in range(steps):
            sampler._chain._random = Given((first + 0.5) / steps, (second + 0.5) / steps)  # type: ignore[assignment]
            counts[sampler.sample(logits)] += 1
    return counts


def test_the_second_draw_is_from_what_the_structure_allows(tokenizer: Tokenizer) -> None:
    """Drawn and allowed, or else drawn again among the allowed: with cuts that is not masking first."""
    a, b, c, d = (tokenizer.encode(x, add_special=False, continuation=True)[0] for x in "abcd")
    logits = np.full(tokenizer.n_vocab, -np.inf, np.float32)
    logits[[a, b, c, d]] = np.log([0.5, 0.3, 0.12, 0.08])
    structure = regex("[bcd]x")

    def probabilities(**params: Any) -> list[float]:
        params = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0, "structure": structure, **params}
        counts = answers(Sampler(SamplingParams(**params), tokenizer), logits, 40)
        return [counts[id] / 1600 for id in (a, b, c, d)]

    assert probabilities() == pytest.approx([0, 0.6, 0.24, 0.16], abs=0.03)  # it is the same without cuts
    # Where a and b are left, b is drawn with 3/8; otherwise two of b, c, d are left, of which b has 5/7.
    assert probabilities(top_k=2) == pytest.approx([0, 3 / 8 + 5 / 8 * 5 / 7, 5 / 8 * 2 / 7, 0], abs=0.03)
    assert probabilities(top_k=1) == [0, 1, 0, 0]
    assert probabilities(temperature=0.0) == [0, 1, 0, 0]


def test_without_a_structure_or_where_it_allows_there_is_one_draw(tokenizer: Tokenizer) -> None:
    b = tokenizer.encode("b", add_special=False, continuation=True)[0]
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    logits[b] = 50.0
    params = SamplingParams(structure=regex("b+"), seed=1)
    plain, structured = Sampler(SamplingParams(seed=1)), Sampler(params, tokenizer)
    for _ in range(4):
        token = structured.sample(logits)
        assert token == plain.sample(logits) == b
        structured.accept(token)
    assert plain._chain._random.random() == structured._chain._random.random()


def test_forced_tokens_spell_what_must_come(tokenizer: Tokenizer) -> None:
    sampler = Sampler(SamplingParams(structure=regex("[xy] is the only way[0-9]"), seed=2), tokenizer)
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    assert sampler.forced() == []
    sampler.accept(sampler.sample(logits))
    forced = sampler.forced()
    for token in forced:
        sampler.accept(token)
    assert tokenizer.decode(forced, continuation=True) == " is the only way"
    assert sampler.forced() == []
    sampler.accept(sampler.sample(logits))
    assert sampler.forced() == [tokenizer.eos_id]
    assert sampler.sample(logits) == tokenizer.eos_id


def test_what_excludes_each_other_is_an_error(tokenizer: Tokenizer) -> None:
    b = tokenizer.encode("b", add_special=False, continuation=True)[0]
    sampler = Sampler(SamplingParams(structure=regex("b|bb"), logit_bias={b: float("-inf")}), tokenizer)
    with pytest.raises(SamplingError, match="structure"):
        sampler.sample(np.zeros(tokenizer.n_vocab, np.float32))
    with pytest.raises(ValueError, match="tokenizer"):
        Sampler(SamplingParams(structure=regex("b")))
    with pytest.raises(StructureError):
        Sampler(SamplingParams(structure=regex("b")), tokenizer).accept(b + 1)


def test_a_finished_text_ends_whatever_keeps_ends_away(tokenizer: Tokenizer) -> None:
    b = tokenizer.encode("b", add_special=False, continuation=True)[0]
    sampler = Sampler(SamplingParams(structure=regex("b"), ignore_eos=True, min_tokens=9), tokenizer)
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    assert sampler.sample(logits) == b
    sampler.accept(b)
    assert sampler.sample(logits) == tokenizer.eos_id


@pytest.mark.parametrize("seed", range(6))
def test_a_schema_holds_for_every_answer(llm: LLM, seed: int) -> None:
    sampling = SamplingParams(structure=PERSON, seed=seed, temperature=1.5)
    done = llm.generate("Once upon a time", max_tokens=200, sampling=sampling)
    assert done.finish_reason == "stop"
    got = json.loads(done.text)
    assert list(got) == ["name", "age", "tags"]
    assert len(got["name"]) <= 10
    assert 0 <= got["age"] <= 120
    assert set(got["tags"]) <= {"a", "b"}
    assert llm.generate("Once upon a time", max_tokens=200, sampling=sampling).text == done.text


@pytest.mark.parametrize(
    ("structure", "pattern"),
    [
        (regex(r"(yes|no|maybe), [a-z]{3,8}[.]"), r"(yes|no|maybe), [a-z]{3,8}[.]"),
        (gbnf('root ::= (word " "){2,4} "." \nword ::= [a-z]{1,6} | "(" word ")"'), r"([a-z()]+ ){2,4}\."),
        (lark('start: ITEM+\nITEM: /- [a-z]{2,6}\\n/\n'), r"(- [a-z]{2,6}\n)+"),
        (regex("é{2}[ü-ÿ]"), "éé[ü-ÿ]"),  # characters of several tokens
    ],
    ids=["regex", "gbnf", "lark", "bytes"],
)  # fmt: skip
def test_every_kind_holds(llm: LLM, structure: Structure, pattern: str) -> None:
    for seed in range(4):
        sampling = SamplingParams(structure=structure, seed=seed, temperature=2.0)
        done = llm.generate("Once upon a time", max_tokens=60, sampling=sampling)
        if done.finish_reason == "stop":
            assert re.fullmatch(pattern, done.text)


def test_forcing_changes_no_letter_that_is_forced(llm: LLM) -> None:
    """Fed at once or one by one, what must come is the same text."""
    structure = regex('\\{"the_answer_to_all_questions": (1|2)\\}')
    for logprobs in (None, 1):  # every token is read on its own where log-probabilities are wanted
        sampling = SamplingParams(structure=structure, seed=0, logprobs=logprobs)
        text = llm.generate("Once upon a time", max_tokens=120, sampling=sampling).text
        assert re.fullmatch('\\{"the_answer_to_all_questions": [12]\\}', text)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), flat=st.floats(0, 10))
def test_noise_cannot_leave_a_structure(tokenizer: Tokenizer, seed: int, flat: float) -> None:
    rng = np.random.default_rng(seed)
    sampler = Sampler(SamplingParams(structure=PERSON, seed=seed, temperature=1.0), tokenizer)
    ids: list[int] = []
    for _ in range(400):
        token = sampler.sample((rng.standard_normal(tokenizer.n_vocab) * flat).astype(np.float32))
        if token in tokenizer.eog_ids:
            break
        ids.append(token)
        sampler.accept(token)
    else:
        raise AssertionError("bounded text does not end")
    assert set(json.loads(tokenizer.decode(ids, continuation=True))) == {"name", "age", "tags"}


def test_a_vocabulary_that_cannot_write_it() -> None:
    with (
        LLM.load(tiny_model("mamba2")[0], threads=1, n_ctx=64) as llm,  # it has letters alone
        pytest.raises(StructureError, match="no token of the model's vocabulary can come next"),
    ):
        llm.generate([3], sampling=SamplingParams(structure=json_schema({"type": "object"})))


def test_more_is_forced_at_once_than_the_context_holds(llm: LLM) -> None:
    text = "Tom and a dog " * 100
    sampling = SamplingParams(structure=json_schema({"const": text}), temperature=0)
    answer = llm.generate("Once", sampling=sampling, overflow="shift")
    assert len(answer.tokens) > 2 * llm.n_ctx
    assert (json.loads(answer.text), answer.finish_reason) == (text, "stop")
