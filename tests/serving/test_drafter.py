"""A draft model's guesses: answers have the tokens and the bits that they have without; what it costs is paid for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asking import Asking, alone, together
from llamaq import LLM, SamplingParams
from llamaq.engine import bundled
from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.serving import drafter as drafter_module
from llamaq.serving.account import Account
from llamaq.serving.drafter import Drafter, Drafting
from llamaq.serving.lookup import Lookup
from llamaq.serving.speculation import Costs
from llamaq.serving.stream import Stream
from llamaq.serving.texts import Texts
from pages import check_pages
from tiny_models import tiny_model
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)
CACHES: dict[str, Any] = {"n_ctx": 128, "n_cache": 224, "threads": 1}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses cost nothing, and there is no other place that they come from."""
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    monkeypatch.setattr(Account, "balance", property(lambda self: 1.0, lambda self, value: None), raising=False)
    monkeypatch.setattr(Lookup, "guess", lambda self, ids, count: ([], 0))
    monkeypatch.setattr(Texts, "guess", lambda self, ids, count: ([], 0))
    monkeypatch.setattr(drafter_module, "_PATIENCE", 600.0)  # the machine may be busy
    monkeypatch.setattr(Drafter, "_note", lambda self, *args: None)
    init = Drafter.__init__
    monkeypatch.setattr(
        Drafter, "__init__", lambda self, scheduler, vocabulary, share: init(self, scheduler, vocabulary, 0.0)
    )


@pytest.fixture(params=["stories", "demo", "gemma3", "lfm2"])
def pair(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> tuple[Any, Any, bool]:
    """A model, its draft model, and whether they write text: another file, the same one, with windows, with states."""
    if request.param == "stories":
        return shared("models/stories260K-Q8_0.gguf"), shared("models/stories260K-Q4_0.gguf"), True
    if request.param == "demo":
        return None, bundled.path(), True
    if request.param == "lfm2":
        return tiny_model("llama")[0], tiny_model("lfm2")[0], False
    return tiny_model(request.param)[0], tiny_model(request.param)[0], False


@pytest.mark.usefixtures("eager")
def test_answers_are_the_same_with_a_draft_model(pair: tuple[Any, Any, bool]) -> None:
    """Random requests over samplers, structures, processors, stops and shifts, some of them cancelled."""
    path, draft, texts = pair
    with LLM.load(path, **CACHES, speculation=False) as llm:
        asking = Asking(3, llm.tokenizer.n_vocab, texts)
        questions = [asking.question() for _ in range(12 if texts else 6)]
        want = alone(llm, questions)
    with LLM.load(path, **CACHES, draft=draft) as llm:
        drafter = llm.model.scheduler.speculation.drafter
        assert isinstance(drafter, Drafter)
        got, drafted, accepted = together(llm, questions)
        for scheduler in (llm.model.scheduler, drafter.scheduler):
            wait_until(lambda scheduler=scheduler: scheduler.idle)  # type: ignore[misc]
            check_pages(scheduler)
        assert not drafter.scheduler.room.holders  # nothing is kept of texts that have ended
    for question, a, b in zip(questions, got, want, strict=True):
        assert a == b, question
    assert drafted > accepted > (0 if path != draft and not texts else 20)


@pytest.mark.usefixtures("eager")
def test_a_model_that_drafts_for_itself_is_always_right(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    with LLM.load(stories, **CACHES) as draft, LLM.load(stories, **CACHES, draft=draft) as llm:
        forward = llm.engine.forward

        def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
            steps.append(len(step))
            return forward(step, *args, **kwargs)

        monkeypatch.setattr(llm.engine, "forward", counted)
        session = llm.session()
        session.extend("Once upon a time")
        done = session.generate(max_tokens=40, sampling=SamplingParams(temperature=0, logprobs=2))
        assert done.usage.accepted_tokens == done.usage.drafted_tokens > 30
        assert len(steps) < 10
        assert llm.generate("Once upon a time", max_tokens=40, sampling=GREEDY).tokens == done.tokens
        assert llm.memory.draft == 0  # it was there
    assert draft.model.scheduler.closed


def test_a_draft_model_must_pay(stories: Path, shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes as long as the model itself never runs for more than the credit of a text."""
    asked: list[Drafting] = []

    def work(self: Drafting, *args: Any) -> None:
        asked.append(self)

    monkeypatch.setattr(Drafting, "work", work)
    monkeypatch.setattr(Lookup, "guess", lambda self, ids, count: ([], 0))
    monkeypatch.setattr(Texts, "guess", lambda self, ids, count: ([], 0))
    with LLM.load(stories, **CACHES, draft=shared("models/stories260K-F32.gguf")) as llm:
        llm.generate("Once upon a time", max_tokens=100, sampling=GREEDY)
    assert len(asked) == 0


def test_account_pays_for_what_guesses_cost() -> None:
    account = Account()
    account.book([], 0, 0.1, 1.0, fee=0.7)
    assert account.balance == pytest.approx(0.31)
    account.book([8, 9], 1, 0.1, 1.0, fee=0.3)
    assert account.balance == pytest.approx(0.31 + 0.01 + 1.0 - 0.2 - 0.3)
    assert (account.drafted, account.accepted) == (2, 1)


@pytest.mark.usefixtures("eager")
def test_a_long_prompt_is_read_in_pieces(stories: Path) -> None:
    with LLM.load(stories, threads=1, n_ctx=512, draft=stories) as llm:
        drafter = llm.model.scheduler.speculation.drafter
        assert isinstance(drafter, Drafter)
        text = [300 + i * i % 90 for i in range(400)]
        done = llm.generate(text, max_tokens=40, sampling=GREEDY)
        assert done.usage.accepted_tokens > 20
        room = drafter.scheduler.room
        wait_until(lambda: not room.holders)
        assert drafter.scheduler.known(text) == 400  # the next answer in the same chat needs them
        drafter._row = 1e6  # seconds: from now on, only what is known may be gone on with
        assert llm.generate(text[1:], max_tokens=40, sampling=GREEDY).usage.drafted_tokens == 0
        assert llm.generate(text, max_tokens=40, sampling=GREEDY).usage.accepted_tokens > 20


@pytest.mark.usefixtures("eager")
def test_what_befalls_the_draft_model_ends_no_answer(
    stories: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with LLM.load(stories, **CACHES) as draft, LLM.load(stories, **CACHES, draft=draft) as llm:
        want = llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY).tokens

        def fails(self: Drafting, *args: Any) -> None:
            raise ZeroDivisionError("in the draft model")

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "llamaq"):
            patch.setattr(Drafting, "work", fails)
            assert llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY).tokens == want
        assert caplog.messages == ["a text gets no guesses of the draft model: in the draft model"]
        stream = llm.stream("Once upon a time", max_tokens=30, sampling=GREEDY)
        next(stream)
        draft.close()
        assert (next(stream).token, *(event.token for event in stream))[:28] == want[1:29]
        assert llm.generate("Once upon a time", max_tokens=30, sampling=GREEDY).tokens == want


def with_fewer_tokens(source: Path, target: Path, count: int) -> Path:
    """The model without its last tokens."""
    with GGUFFile.open(source) as file:
        keys: dict[str, Any] = dict(file.metadata)
        for key in ("tokens", "scores", "token_type"):
            keys[f"tokenizer.ggml.{key}"] = keys[f"tokenizer.ggml.{key}"][:count]
        tensors = []
        for name, info in file.tensors.items():
            cut = slice(count if name in ("token_embd.weight", "output.weight") else None)
            shape = (len(range(info.shape[0])[cut]), *info.shape[1:])
            tensors.append(TensorData(name, info.format, shape, file.data(name)[cut].copy()))
        write_gguf(target, keys, tensors, types=file.metadata_types)
    return target


@pytest.mark.usefixtures("eager")
def test_a_token_that_the_draft_model_does_not_know_ends_the_guesses_of_its_text_alone(
    stories: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LLM.load(stories, **CACHES, speculation=False) as llm:
        want = llm.generate("Once upon a time", max_tokens=40, sampling=GREEDY).tokens
    small = with_fewer_tokens(stories, tmp_path / "small.gguf", 500)
    with LLM.load(stories, **CACHES, draft=small) as llm, caplog.at_level(logging.WARNING, "llamaq"):
        ids = llm.prompt_ids("Once upon a time")

        def odd(text: Any, logits: Any) -> None:
            if len(text) == len(ids) + 12:
                logits[505] += 1000

        samplings = [GREEDY, SamplingParams(temperature=0, logit_processors=[odd])]
        streams = [llm.model.prepare(ids, max_tokens=40, sampling=sampling) for sampling in samplings]
        Stream.begin(*streams)
        plain, changed = (stream.result() for stream in streams)
    assert plain.tokens == want
    assert changed.tokens[:13] == (*want[:12], 505)
    assert plain.usage.accepted_tokens > 20
    assert 0 < changed.usage.accepted_tokens < 13
    assert caplog.messages == []


@pytest.mark.usefixtures("eager")
def test_logits_of_a_draft_model_that_are_no_numbers_are_no_guesses(
    stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LLM.load(stories, **CACHES) as draft, LLM.load(stories, **CACHES, draft=draft) as llm:
        want = llm.generate("Once upon a time", max_tokens=20, sampling=GREEDY)
        assert want.usage.drafted_tokens > 0
        forward = draft.engine.forward
        for damage in (np.nan, np.inf, -np.inf):
            with monkeypatch.context() as patch:
                patch.setattr(draft.engine, "forward", lambda *a, _x=damage, **k: np.full_like(forward(*a, **k), _x))
                done = llm.generate("Once upon a time", max_tokens=20, sampling=GREEDY)
            assert (done.tokens, done.usage.drafted_tokens) == (want.tokens, 0)


def test_a_draft_model_has_the_same_tokens(stories: Path, shared: Callable[[str], Path]) -> None:
    other = shared("models/babyllama-tok361-pad256-F32.gguf")
    for draft in (other, LLM.load(other, n_ctx=64, threads=1)):
        with pytest.raises(ModelError, match=r"the draft model has 361 tokens, the model 512; a draft model has"):
            LLM.load(stories, **CACHES, draft=draft)
    with GGUFFile.open(stories) as file:
        metadata: Any = file.metadata
        tokens: Any = list(metadata["tokenizer.ggml.tokens"])
        tokens[300] = "other"
        file.override({"tokenizer.ggml.tokens": tokens})
        with pytest.raises(ModelError, match=r"token 300 is 'other' in the draft model and '.*' in the model; a draft"):
            LLM.load(stories, **CACHES, draft=file)


def test_memory_of_a_draft_model_is_told_before_it_is_taken(stories: Path) -> None:
    plain = LLM.load(stories, **CACHES, speculation=False)
    with plain as alone, LLM.load(stories, **CACHES, draft=stories) as both:
        assert both.memory.draft == alone.memory.total
        assert both.memory.total == 2 * alone.memory.total + both.memory.texts


@pytest.mark.usefixtures("eager")
def test_a_function_guesses(stories: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LLM.load(stories, **CACHES) as llm:
        ids = llm.prompt_ids("Once upon a time")
        want = llm.generate(ids, max_tokens=40, sampling=GREEDY)
    asked: list[int] = []

    def known(text: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        asked.append(len(text))
        return np.array(want.tokens[len(text) - len(ids) :])

    with LLM.load(stories, **CACHES, draft=known) as llm:
        done = llm.generate(ids, max_tokens=40, sampling=GREEDY)
        assert (done.tokens, done.events) == (want.tokens, want.events)
        assert done.usage.accepted_tokens > 25
        assert len(asked) < 12
    with (
        LLM.load(stories, **CACHES, draft=lambda text: ["x"]) as llm,
        pytest.raises(TypeError, match="tokens that the draft function gives"),
    ):
        llm.generate(ids, max_tokens=40, sampling=GREEDY)
    other = [*ids[:-1], 300]
    with LLM.load(stories, **CACHES, draft=lambda text: [512] if text[len(ids) - 1] == 300 else []) as llm:
        streams = [llm.model.prepare(each, max_tokens=40, sampling=GREEDY) for each in (ids, other)]
        Stream.begin(*streams)
        with pytest.raises(ValueError, match=r"each of the tokens that the draft function gives must be .* to 511"):
            streams[1].result()
        assert streams[0].result().tokens == want.tokens
