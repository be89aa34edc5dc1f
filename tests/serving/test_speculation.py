"""Guesses of what comes next: whatever they are, answers have the tokens and the bits that they have without."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asking import Asking, Outcome, alone, fresh, outcome
from llamaq import LLM, SamplingParams
from llamaq.errors import TokenizerError
from llamaq.serving.account import Account, by_match
from llamaq.serving.generation import Generation
from llamaq.serving.lookup import Lookup
from llamaq.serving.request import Guess
from llamaq.serving.speculation import Costs, _values
from llamaq.serving.stream import Stream
from llamaq.structure import json_schema
from pages import check_pages
from tiny_models import tiny_model
from waiting import wait_until

REQUESTS = int(os.environ.get("LLAMAQ_SPECULATION_REQUESTS", "20"))
"""Of each model."""
SEED = int(os.environ.get("LLAMAQ_SPECULATION_SEED", "1"))
GREEDY = SamplingParams(temperature=0)
CACHES: dict[str, Any] = {"n_ctx": 128, "n_cache": 224, "threads": 2}
"""Room for one text and three pages."""

known: dict[int, tuple[int, ...]] = {}
"""The answers of the requests that run."""


def noisy(expected: dict[int, tuple[int, ...]], rng: random.Random) -> Any:
    """A ``guess`` that knows the answer of each request, and is wrong now and then."""

    def guess(self: Generation, most: int) -> Guess | None:
        most = min(most, rng.randrange(9), self._n_ctx - len(self.ids))
        tokens = [*expected.get(id(self), ())[self.made : self.made + most]]
        tokens += [rng.randrange(60) for _ in range(most - len(tokens))]
        tokens = [rng.randrange(60) if rng.random() < 0.15 else token for token in tokens]
        return Guess.alike(tokens, 1.0, 0) if tokens else None

    return guess


def in_company(
    llm: LLM, questions: list[dict[str, Any]], rng: random.Random, expected: list[Outcome]
) -> tuple[list[Outcome], int, int]:
    """Several at a time, beside others that are cancelled; and how many tokens were guessed, and were right."""
    found: list[Outcome] = []
    drafted = accepted = 0
    while len(found) < len(questions):
        some = questions[len(found) : len(found) + rng.choice([1, 1, 2, 4])]
        streams = [llm.model.prepare(**fresh(question)) for question in some]
        for stream, want in zip(streams, expected[len(found) :], strict=False):
            known[id(stream._request)] = want[1]
        other = llm.model.prepare(**fresh(rng.choice(questions)))
        Stream.begin(*streams, *([other] if rng.random() < 0.3 else []))
        other.cancel()
        done = [stream.result() for stream in streams]
        found += map(outcome, done)
        drafted += sum(each.usage.drafted_tokens for each in done)
        accepted += sum(each.usage.accepted_tokens for each in done)
        known.clear()
    wait_until(lambda: llm.model.scheduler.idle)
    return found, drafted, accepted


STATES = ["lfm2", "qwen35", "qwen3next", "granitehybrid", "mamba2"]
"""Models that keep a state: of convolutions, delta nets, Mamba-2."""


@pytest.fixture(params=["stories", "demo", "gemma3", "gemma4", "gptoss", "qwen3moe", *STATES])
def model(request: pytest.FixtureRequest, stories: Path) -> dict[str, Any]:
    """A path, or None for the bundled model, and the cache's type: with windows, experts, text, states."""
    found: dict[str, Any] = {"stories": {"path": stories, "cache_type": "f32"}, "demo": {"path": None}}
    found["demo"]["cache_type"] = "q8_0"
    return found.get(request.param) or {"path": tiny_model(request.param)[0]}


@pytest.mark.parametrize("how", ["lookup", "noisy"])
def test_answers_are_the_same_with_guesses(model: dict[str, Any], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random requests over samplers, structures, processors, stops and shifts, in a small cache."""
    texts = "cache_type" in model
    with LLM.load(**model, **CACHES, speculation=False) as llm:
        asking = Asking(SEED, llm.tokenizer.n_vocab, texts)
        questions = [asking.question() for _ in range(REQUESTS)]
        want = alone(llm, questions)
    rng = random.Random(SEED)
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    if how == "noisy":
        monkeypatch.setattr(Generation, "guess", noisy(known, rng))
    else:
        monkeypatch.setattr(Account, "balance", property(lambda self: 1.0, lambda self, value: None), raising=False)
    with LLM.load(**model, **CACHES) as llm:
        got, drafted, accepted = in_company(llm, questions, rng, want)
        check_pages(llm.model.scheduler)
    for question, a, b in zip(questions, got, want, strict=True):
        assert a == b, question
    assert drafted > accepted >= (0 if how == "lookup" else REQUESTS)


def test_a_text_that_repeats_itself_takes_fewer_steps(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a model that copies: its logits are replaced by what its prompt goes on with."""
    text = [300 + i * i % 90 for i in range(40)]
    copied = SamplingParams(temperature=0, logprobs=1, logit_processors=[Copying(text)])
    steps: list[int] = []
    forward = llm.engine.forward

    def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(len(step))
        return forward(step, *args, **kwargs)

    monkeypatch.setattr(llm.engine, "forward", counted)
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.1)
    with_guesses = llm.generate([*text, 299, *text[:5]], max_tokens=35, sampling=copied)
    some = len(steps)
    monkeypatch.setattr(llm.model, "speculation", False)
    without = llm.generate([*text, 299, *text[:5]], max_tokens=35, sampling=copied)
    assert list(with_guesses.tokens) == text[5:]
    assert outcome(with_guesses)[1:3] == outcome(without)[1:3]
    assert with_guesses.events == without.events
    assert some < 12 < 34 < len(steps) - some
    usage = with_guesses.usage
    assert usage.accepted_tokens >= 35 - some
    assert usage.drafted_tokens >= usage.accepted_tokens
    assert (without.usage.drafted_tokens, without.usage.accepted_tokens) == (0, 0)


def test_a_prediction_is_tried_first(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.1)
    want = llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY)
    assert want.usage.drafted_tokens < 10
    for prediction in (want.text, want.tokens):
        done = llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY, prediction=prediction)
        assert outcome(done)[1:3] == outcome(want)[1:3]
        assert done.usage.accepted_tokens > 20
    other = llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY, prediction=[300, 301, 302] * 20)
    assert other.tokens == want.tokens
    with pytest.raises(TokenizerError, match="token ids are 0 to 511"):
        llm.generate("Once upon a time", prediction=[512])


class Copying:
    """A logit processor that goes on with a text from where the answer stands in it."""

    def __init__(self, text: list[int]) -> None:
        self.text = text

    def __call__(self, ids: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> None:
        at = len(ids) - len(self.text) - 1
        logits[self.text[at] if at < len(self.text) else 0] += 1000


def test_an_error_comes_after_the_tokens_before_it(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor fails in the middle of what was guessed: who reads has seen the same events as without guesses."""
    want = llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY).tokens

    def fails(ids: Any, logits: Any) -> None:
        if len(ids) == len(llm.prompt_ids("Once upon a time")) + 10:
            raise ZeroDivisionError("in the processor")

    def guess(self: Generation, most: int) -> Guess:
        return Guess.alike([*want[self.made : self.made + most]], 1.0, 0)

    monkeypatch.setattr(Generation, "guess", guess)
    stream = llm.stream("Once upon a time", max_tokens=30, sampling=replace(GREEDY, logit_processors=[fails]))
    seen: list[int | None] = []
    with pytest.raises(ZeroDivisionError, match="in the processor"):
        seen += (event.token for event in stream)  # the error keeps what came before it
    assert tuple(seen) == want[:10]
    wait_until(lambda: llm.model.scheduler.idle)
    check_pages(llm.model.scheduler)


def test_guesses_take_nothing_from_texts_that_are_kept(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    monkeypatch.setattr(Generation, "guess", lambda self, most: Guess.alike([300] * most, 1.0, 0))
    with LLM.load(stories, threads=1, n_ctx=96, n_cache=128) as llm:  # five pages
        kept = list(range(300, 364))
        llm.generate(kept, max_tokens=1, sampling=GREEDY)
        session = llm.session()
        session.extend(kept)
        llm.generate([*range(400, 440)], max_tokens=20, sampling=GREEDY)  # two pages; guesses would want a third one
        assert session.n_past == 64


@pytest.mark.parametrize("name", ["lfm2", "qwen35"])
def test_a_state_goes_back_with_the_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four guesses two are right: these are read once more, in the next step; and who goes on with the answer finds
    as much of it as without guesses."""
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    ids = [5, 9, 7, 30]

    def ask(speculation: bool, right: int) -> tuple[list[int], Any, Any]:
        steps: list[int] = []

        def guess(self: Generation, most: int) -> Guess:
            tokens = [*want[self.made : self.made + right], *[(want[self.made + right] + 1) % 60] * (4 - right)]
            return Guess.alike(tokens[:most], 1.0, 0)

        monkeypatch.setattr(Generation, "guess", guess)
        with LLM.load(tiny_model(name)[0], threads=1, n_ctx=128, speculation=speculation) as llm:
            forward = llm.engine.forward

            def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
                steps.append(len(step))
                return forward(step, *args, **kwargs)

            monkeypatch.setattr(llm.engine, "forward", counted)
            done = llm.generate(ids, max_tokens=50, sampling=replace(GREEDY, seed=1, logprobs=1, ignore_eos=True))
            own = steps[1:]
            rest = llm.generate([*ids, *done.tokens, 3], max_tokens=1, sampling=replace(GREEDY, seed=1))
        return own, done, rest

    book, again_booked = Account.book, [0]

    def booked(self: Account, *args: Any) -> None:
        again_booked[0] += args[5]
        book(self, *args)

    monkeypatch.setattr(Account, "book", booked)
    want: tuple[int, ...] = ()
    plain, done, rest = ask(False, 0)
    want = (*done.tokens, *[0] * 9)
    for right in (0, 2, 4):
        steps, again, gone_on = ask(True, right)
        assert outcome(again) == outcome(done)
        assert outcome(gone_on) == outcome(rest)
        assert (gone_on.usage.cached_tokens, rest.usage.cached_tokens) == (32, 32)
        assert max(steps) == (7 if right == 2 else 5)  # two are read again, one is new, four are guessed
        assert (again_booked[0] > 10) == (right == 2)  # the account knows them
        again_booked[0] = 0
        assert len(steps) < len(plain) if right else sum(steps) > 4 * sum(plain)


def test_what_is_read_again_counts() -> None:
    account = Account()
    account.book([0, 0, 0], 2, 0.1, 1.0, again=2)
    assert account.balance == pytest.approx(1 + 0.01 + 2 - 0.5)
    assert [*_values([0.9, 0.5, 0.5], 0.0)] == pytest.approx([0.9, 0.45, 0.225])
    again = [0.9, 0.45 - 0.45 * 0.2, 0.225 - 2 * 0.225 * 0.2]
    assert [*_values([0.9, 0.5, 0.5], 0.2)] == pytest.approx(again)
    assert [*_values([0.9, 0.0, 1.0], 0.2)] == pytest.approx([0.9, -0.18, -0.18])


def test_a_lookup_finds_the_longest_earlier_place() -> None:
    lookup = Lookup()
    text = [1, 2, 3, 4, 5, 9, 2, 3, 4, 6, 0, 7, 2, 3, 4]
    assert lookup.guess(text, 3) == ([6, 0, 7], 3)  # the latest of two
    assert lookup.guess([*text, 5], 2) == ([9, 2], 4)
    assert lookup.guess([*text, 5, 8], 2) == ([], 0)
    assert lookup.guess([*text, 5, 8, 1], 0) == ([], 0)
    again = Lookup()
    assert again.guess([1, 2, 3, 1, 2, 3], 8) == ([1, 2, 3, 1, 2, 3, 1, 2], 3)
    assert Lookup().guess([5] * 4, 5) == ([5] * 5, 3)
    assert Lookup().guess([], 5) == Lookup().guess([1, 2], 5) == ([], 0)
    prefer = [*range(10), 50, *range(4, 10), 60, *range(10)]
    assert Lookup().guess(prefer, 2) == ([50, 4], 10)


def test_a_lookup_finds_what_is_expected_at_once() -> None:
    lookup = Lookup([1, 2, 3, 4], [5, 6, 7])
    assert lookup.guess([1, 2, 3, 4], 8) == ([5, 6, 7], 4)
    assert lookup.guess([1, 2, 3, 4, 5, 6], 8) == ([7], 6)


@pytest.mark.parametrize("slope", [0.02, 0.3])
def test_costs_learn_what_a_row_takes(slope: float) -> None:
    costs, rng = Costs(), random.Random(5)
    for i in range(200):
        rows = rng.choice([1, 1, 1, 5, 9])
        costs.note(rows, (1 + slope * (rows - 1)) * rng.uniform(0.9, 1.1) * (10 if i % 40 == 39 else 1))
    assert costs.price(1) == pytest.approx(slope, rel=0.5)
    assert costs.price(9) == pytest.approx(slope / (1 + 8 * slope), rel=0.5)
    assert Costs().price(1) == pytest.approx(0.15)


def test_an_account_that_never_gains_loses_little() -> None:
    account, lost = Account(), 0.0
    for _ in range(256):
        guesses = 4 if account.balance > 0 else 0
        account.book([0] * guesses, 0, 0.15, 1.0)
        lost += 0.15 * guesses
    assert 3 < lost < 256 * 0.02
    assert account.chance(by_match(3)) < 0.2 < account.chance(by_match(20))


def test_an_account_that_gains_goes_on() -> None:
    account = Account()
    for _ in range(50):
        assert account.balance > 0
        account.book([by_match(20)] * 8, 6, 0.2, 1.0)
    assert (account.drafted, account.accepted) == (400, 300)
    assert 0.8 < account.chance(by_match(20)) < 0.95


def test_what_a_structure_will_force_is_guessed_where_its_log_probabilities_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.1)
    monkeypatch.setattr(Lookup, "guess", lambda self, ids, count: ([], 0))
    fields = {"a number of things": {"type": "integer"}, "whether it is so": {"type": "boolean"}}
    structure = json_schema({"type": "object", "properties": fields, "required": [*fields]})
    sampling = SamplingParams(seed=3, temperature=1.5, logprobs=2, structure=structure)
    with LLM.load(threads=1, n_ctx=256) as llm:
        done = llm.generate("Tell me:", max_tokens=100, sampling=sampling)
        steps: list[int] = []
        forward = llm.engine.forward

        def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
            steps.append(len(step))
            return forward(step, *args, **kwargs)

        monkeypatch.setattr(llm.engine, "forward", counted)
        llm.generate("Tell me:", max_tokens=100, sampling=sampling)
    with LLM.load(threads=1, n_ctx=256, speculation=False) as llm:
        without = llm.generate("Tell me:", max_tokens=100, sampling=sampling)
    assert outcome(done) == outcome(without)
    assert done.finish_reason == "stop"
    usage = done.usage
    assert usage.drafted_tokens == usage.accepted_tokens > 10
    assert len(steps) <= len(done.tokens) + 1 - usage.accepted_tokens
