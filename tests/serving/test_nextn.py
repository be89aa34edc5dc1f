"""Guesses of the block in a model's own file: answers have the tokens and the bits that they have without."""

from __future__ import annotations

import gc
import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asking import Asking, alone, together
from llamaq import LLM, SamplingParams
from llamaq.engine.memory import KEPT_ANSWERS, KEPT_STATES
from llamaq.engine.nextn import NextN
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.serving import disk_cache, last_states
from llamaq.serving.account import Account
from llamaq.serving.last_states import LastStates, StatesRoom
from llamaq.serving.lookup import Lookup
from llamaq.serving.nextn_drafter import NextNDrafter
from llamaq.serving.rounds import Round
from llamaq.serving.speculation import Costs
from llamaq.serving.stream import Stream
from llamaq.serving.texts import Texts
from nextn_models import knowing, with_block, written
from pages import check_pages
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)
CACHES: dict[str, Any] = {"n_ctx": 128, "n_cache": 224, "threads": 1}
IDS = [5, 900, 77, 1234, 31]


@pytest.fixture
def alone_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other place that guesses come from."""
    monkeypatch.setattr(Lookup, "guess", lambda self, ids, count: ([], 0))
    monkeypatch.setattr(Texts, "guess", lambda self, ids, count: ([], 0))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, alone_guessing: None) -> None:
    """Guesses cost nothing."""
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.0)
    monkeypatch.setattr(Account, "balance", property(lambda self: 1.0, lambda self, value: None), raising=False)
    monkeypatch.setattr(NextNDrafter, "_note", lambda self, *args: None)
    monkeypatch.setattr(NextN, "share", property(lambda self: 0.0, lambda self, value: None), raising=False)


def drafter_of(llm: LLM) -> NextNDrafter:
    found = llm.model.scheduler.speculation.drafter
    assert isinstance(found, NextNDrafter)
    return found


def check_cache(llm: LLM) -> None:
    """Once all has ended nobody holds a page of the block's."""
    wait_until(lambda: llm.model.scheduler.idle)
    check_pages(llm.model.scheduler)
    pools = drafter_of(llm)._nextn.cache.pools
    assert all(pool.free == len(pool.layers[0]) for pool in pools)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["qwen35", "deepseek3", "glm4moe-normed", "nemotron-h-latent"])
@pytest.mark.parametrize("share", [0.03, None])
def test_answers_are_the_same_with_a_block(name: str, share: float | None) -> None:
    """Random requests over samplers, processors, stops and shifts, some of them cancelled; with right, wrong and no
    guesses, and states that must go back (Qwen 3.5) or not."""
    path = written(*(with_block(name) if share is None else knowing(name, share)))
    with LLM.load(path, **CACHES, speculation=False) as llm:
        asking = Asking(3, llm.tokenizer.n_vocab, texts=False)
        questions = [asking.question() for _ in range(8)]
        want = alone(llm, questions)
    with LLM.load(path, **CACHES) as llm:
        got, drafted, accepted = together(llm, questions)
        check_cache(llm)
    for question, a, b in zip(questions, got, want, strict=True):
        assert a == b, question
    assert drafted > accepted > (-1 if share is None else 20)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["qwen35", "deepseek3", "glm4moe-normed", "nemotron-h-latent"])
def test_a_block_that_knows_what_comes_is_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    with LLM.load(written(*knowing(name, 0.0)), **CACHES) as llm:
        forward = llm.engine.forward

        def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
            steps.append(len(step))
            return forward(step, *args, **kwargs)

        monkeypatch.setattr(llm.engine, "forward", counted)
        ids = [id % llm.hparams.vocab_size for id in IDS]
        done = llm.generate(ids, max_tokens=60, sampling=SamplingParams(temperature=0, logprobs=2))
        assert done.usage.accepted_tokens == done.usage.drafted_tokens > 45
        assert len(steps) < 15
        assert llm.generate(ids, max_tokens=60, sampling=GREEDY).tokens == done.tokens


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["long", "shifts", "gaps"])
def test_rows_are_tokens_and_the_states_before_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round reads the model's own states of what has come since the last, or where some are not kept (of a long
    prompt, behind a shift, where few are kept) of the latest tokens, and goes on with the block's of its guesses."""
    shifts, kept = kind == "shifts", 4 if kind == "gaps" else KEPT_STATES
    monkeypatch.setattr(last_states, "KEPT_STATES", kept)
    rounds: list[tuple[list[int], list[Any]]] = []
    run, original = NextNDrafter._run, NextN.read

    def begins(self: NextNDrafter, requests: Any, step: float) -> None:
        if requests:
            rounds.append(([*next(iter(requests)).ids], []))
        run(self, requests, step)

    def read(self: NextN, parts: Any) -> Any:
        ((sequence, at, rows),) = parts
        logits, states = original(self, parts)
        rounds[-1][1].append((sequence, at, rows, logits[0], states))
        return logits, states

    monkeypatch.setattr(NextNDrafter, "_run", begins)
    monkeypatch.setattr(NextN, "read", read)
    prompt = [3 + i * i % 2000 for i in range(20 if shifts else KEPT_STATES + 40)]
    with LLM.load(written(*knowing("qwen35", 0.03)), n_ctx=48 if shifts else 384, threads=1) as llm:
        nextn, steps = llm.model.parts.nextn, list[int]()
        assert nextn is not None
        forward = llm.engine.forward

        def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
            steps.append(len(step))
            return forward(step, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(llm.engine, "forward", counted)
            done = llm.generate(prompt, max_tokens=60, sampling=GREEDY, overflow="shift", keep=4)
        assert done.usage.drafted_tokens > done.usage.accepted_tokens > 5
        assert (done.usage.dropped_tokens > 0) == shifts
        assert len(rounds) > len(steps) - (12 if shifts else 4)
        last, texts = (-1, 0), len({passes[0][0] for _, passes in rounds})
        for ids, passes in rounds:
            sequence, at, rows, *_ = passes[0]
            assert (sequence, at) == last if sequence == last[0] else at == 0
            last = sequence, at + len(rows)
            states = llm.forward(ids[:-1], capture=["hidden"]).hidden[-1]
            want = nextn.rows(ids[1:], nextn.normed(states))
            np.testing.assert_array_equal(rows, want[-len(rows) :])
            for i, (before, now) in enumerate(itertools.pairwise(passes)):
                assert now[:2] == (sequence, at + len(rows) + i)
                np.testing.assert_array_equal(now[2], nextn.rows([int(before[3].argmax())], before[4]))
        assert len(rounds[0][1][0][2]) == (21 if shifts else kept)
        assert texts > 1 if kind == "gaps" else texts == 1 + done.usage.dropped_tokens // 22


def test_a_block_must_pay(alone_guessing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes as long as the model itself never runs."""
    asked: list[int] = []
    original = NextN.read

    def read(self: NextN, parts: Any) -> Any:
        asked.append(len(parts))
        return original(self, parts)

    monkeypatch.setattr(NextN, "read", read)
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES) as llm:
        drafter_of(llm)._share = 1.0
        llm.generate(IDS, max_tokens=60, sampling=GREEDY)
        assert not asked
        drafter_of(llm)._share = 1e-6
        llm.generate(IDS, max_tokens=60, sampling=GREEDY)
        assert asked


@pytest.mark.usefixtures("eager")
def test_who_wants_other_guesses_gets_no_block() -> None:
    path = written(*knowing("qwen35", 0.0))
    choices: list[dict[str, Any]] = [{"speculation": False}, {"draft": path}, {"draft": lambda ids: []}]
    for options in choices:
        with LLM.load(path, **CACHES, **options) as llm:
            assert llm.model.parts.nextn is None
            assert not isinstance(llm.model.scheduler.speculation.drafter, NextNDrafter)


@pytest.mark.usefixtures("eager")
def test_a_full_cache_and_faults_end_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = NextN.read
    fails: list[LlamaqError] = [ContextOverflowError("full", needed=1, available=0)]

    def read(self: NextN, parts: Any) -> Any:
        if fails:
            raise fails.pop()
        return original(self, parts)

    monkeypatch.setattr(NextN, "read", read)
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES) as llm:
        done = llm.generate(IDS, max_tokens=40, sampling=GREEDY)
        assert done.usage.accepted_tokens > 20  # it began anew
        assert not fails
        fails.append(LlamaqError("in the block"))
        with caplog.at_level(logging.WARNING, "llamaq"):
            again = llm.generate(IDS, max_tokens=40, sampling=GREEDY)
        assert (again.tokens, again.usage.drafted_tokens) == (done.tokens, 0)
        assert caplog.messages == ["there are no more guesses of the model's own block: in the block"]
        check_cache(llm)


@pytest.mark.usefixtures("eager")
def test_logits_of_a_block_that_are_no_numbers_are_no_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    original = NextN.read
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES) as llm:
        want = llm.generate(IDS, max_tokens=20, sampling=GREEDY)
        assert want.usage.drafted_tokens > 0

        def read(self: NextN, parts: Any) -> Any:
            logits, states = original(self, parts)
            return np.full_like(logits, np.nan), states

        monkeypatch.setattr(NextN, "read", read)
        done = llm.generate(IDS, max_tokens=20, sampling=GREEDY)
        assert (done.tokens, done.usage.drafted_tokens) == (want.tokens, 0)


@pytest.mark.usefixtures("eager")
def test_small_steps_of_a_model_are_enough() -> None:
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES, n_batch=8) as llm:
        done = llm.generate([5 + i for i in range(50)], max_tokens=40, sampling=GREEDY)
        assert done.usage.accepted_tokens > 20


@pytest.mark.usefixtures("eager")
def test_the_end_of_a_text_is_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata, tensors = knowing("qwen35", 0.0)
    with LLM.load(written(metadata, tensors), **CACHES) as llm:
        last = llm.generate(IDS, max_tokens=16, sampling=GREEDY).tokens[-1]
    taken: list[int] = []
    take = Round.take

    def takes(self: Round, token: int, probability: float) -> bool:
        taken.append(token)
        return take(self, token, probability)

    monkeypatch.setattr(Round, "take", takes)
    with LLM.load(written({**metadata, "tokenizer.ggml.eos_token_id": last}, tensors), **CACHES) as llm:
        done = llm.generate(IDS, max_tokens=60, sampling=GREEDY)
        assert (done.finish_reason, done.usage.drafted_tokens) == ("stop", done.usage.accepted_tokens)
    assert len(taken) > 10
    assert last not in taken


def test_a_shifted_text_has_other_states() -> None:
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES) as llm:
        request = llm.model.prepare(IDS, overflow="shift")._request
        assert request.states is not None
        request.states.add(0, np.ones((5, 64), np.float32))
        request.shift()
        assert (request.states.start, request.states.end) == (0, 0)


@pytest.mark.usefixtures("eager")
def test_prompts_are_kept_on_disk_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, prompt = written(*knowing("deepseek3", 0.0)), [3 + i * i % 2000 for i in range(300)]
    monkeypatch.setattr(disk_cache, "_YOUNG", 0)  # the file is
    found = []
    for _ in range(2):
        with LLM.load(path, n_ctx=384, threads=1, cache_dir=tmp_path) as llm:
            found.append(llm.generate(prompt, max_tokens=30, sampling=GREEDY))
    assert found[0].tokens == found[1].tokens
    assert (found[0].usage.disk_tokens, found[1].usage.disk_tokens > 100) == (0, True)
    assert found[1].usage.accepted_tokens > 20


def test_those_that_come_first_have_room_until_they_end() -> None:
    rows, room = np.ones((3, 2), np.float32), StatesRoom()
    texts = [LastStates((0, 0, 2), room) for _ in range(KEPT_ANSWERS + 1)]
    for text in texts:
        text.add(0, rows)
    assert [(text.start, text.end) for text in texts] == [(0, 3)] * KEPT_ANSWERS + [(3, 3)]
    texts[0].clear()  # it may go on
    texts[-1].add(3, rows)
    assert (texts[-1].start, texts[-1].end) == (6, 6)
    texts[0].close()
    texts[0].add(3, rows)
    texts[-1].add(6, rows)
    assert [(text.start, text.end) for text in (texts[0], texts[-1])] == [(6, 6), (6, 9)]
    del text, texts[1:]
    gc.collect()
    texts += [LastStates((0, 0, 2), room) for _ in range(KEPT_ANSWERS)]
    for text in texts[1:]:
        text.add(0, rows)
        assert text.start == 0


@pytest.mark.usefixtures("eager")
def test_answers_that_have_ended_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody holds them or not; of two at once the one that came first has it."""
    monkeypatch.setattr(last_states, "KEPT_ANSWERS", 1)
    with LLM.load(written(*knowing("qwen35", 0.0)), **CACHES) as llm:
        streams = []
        for _ in range(3):
            streams.append(llm.model.start(IDS, max_tokens=20, sampling=GREEDY))
            assert streams[-1].result().usage.accepted_tokens > 10
        both = [llm.model.prepare(IDS, max_tokens=count, sampling=GREEDY) for count in (60, 5)]
        Stream.begin(*both)
        found = [stream.result() for stream in both]
        assert found[0].tokens[:5] == found[1].tokens
        assert found[0].usage.accepted_tokens > 10
        assert found[1].usage.drafted_tokens == 0


def test_states_wait_in_order() -> None:
    rows = np.arange(2 * (KEPT_STATES + 50), dtype=np.float32).reshape(-1, 2)
    states = LastStates((0, 0, 2), StatesRoom())
    states.add(10, rows[10:20])  # the cache knew those before
    assert (states.start, states.end) == (10, 20)
    states.add(15, rows[15:25])
    np.testing.assert_array_equal(states.take(12), rows[12:25])
    assert (states.start, states.end) == (25, 25)
    states.add(25, rows[25:26])
    np.testing.assert_array_equal(states.take(25), rows[25:26])
    states.add(30, rows[30:31])  # behind a gap
    assert (states.start, states.end) == (30, 31)
    states.add(0, rows)
    assert (states.start, states.end) == (50, KEPT_STATES + 50)
    np.testing.assert_array_equal(states.take(50), rows[50:])
    states.clear()
    assert (states.start, states.end) == (0, 0)
