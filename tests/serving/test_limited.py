"""Models whose layers see the last tokens alone, or keep a state: sessions, forks, shared beginnings and files give
what a text read at once gives, in a cache that keeps a part of the texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import CancelledError, SessionError
from llamaq.serving.scheduler import Scheduler
from pages import check_pages
from tiny_models import tiny_model

GREEDY = SamplingParams(temperature=0)
ON = SamplingParams(temperature=0, ignore_eos=True)
MODELS = ["gemma3", "gptoss", "lfm2", "qwen35", "gemma4", "granitehybrid", "mamba2"]
RNG = np.random.default_rng(8)


def load(name: str, **how: int) -> LLM:
    return LLM.load(tiny_model(name)[0], threads=2, **{"n_ctx": 256, "n_batch": 32, **how})


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def llm(name: str) -> Iterator[LLM]:
    with load(name) as llm:
        yield llm
        check_pages(llm.model.scheduler)


def text(n: int) -> list[int]:
    return RNG.integers(4, 60, n).tolist()


def alone(name: str, ids: list[int]) -> list[int]:
    """What follows, greedily, in a model that has read nothing else, the whole text in one step."""
    with load(name, n_batch=256) as llm:
        return list(llm.generate(ids, max_tokens=12, sampling=GREEDY).tokens)


def test_a_window_needs_room_for_a_few_texts(name: str, llm: LLM) -> None:
    groups = llm.memory.groups
    assert len(groups) == (1 if name == "mamba2" else 2)  # that one keeps nothing but states
    assert llm.memory.cache == sum(pool.data.nbytes for pool in llm.model.parts.cache.pools)
    with load(name, n_ctx=8 * 256) as long:
        small, large = (next(g.nbytes for g in x if g.window or g.state) for x in (groups, long.memory.groups))
        assert large < 3 * small  # it has eight windows and a step, however long the context is


def test_texts_that_share_a_beginning(name: str, llm: LLM) -> None:
    shared = text(90)
    for length in (70, 90, 33, 5, 90):
        ids = [*shared[:length], *text(40)]
        done = llm.generate(ids, max_tokens=12, sampling=GREEDY)
        assert list(done.tokens) == alone(name, ids)
    again = llm.generate(ids, max_tokens=12, sampling=GREEDY)
    assert again.tokens == done.tokens
    assert again.usage.cached_tokens >= len(ids) // 32 * 32  # the place where a text went on is kept


def test_many_at_once_in_little_room(name: str) -> None:
    texts = [text(n) for n in (150, 200, 20, 90, 33, 64, 1, 120, 240, 7, 100, 60)]
    with load(name, n_cache=512) as llm:
        got = llm.batch(texts, max_tokens=12, sampling=GREEDY)
        assert [list(done.tokens) for done in got] == [alone(name, ids) for ids in texts]
        check_pages(llm.model.scheduler)


class Stopping:
    """An executor whose steps are stopped at the last moment, three of ten: all that they wrote is there, and does not
    count."""

    def __init__(self, executor: Any) -> None:
        self._executor, self._rng, self.stopped = executor, np.random.default_rng(3), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def forward(self, *args: Any) -> None:
        self._executor.forward(*args)
        if self._rng.random() < 0.3:
            self.stopped += 1
            raise CancelledError("stopped")


def test_steps_that_are_stopped_leave_no_trace(name: str, llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = text(70)
    texts = [[*shared, *text(n)] for n in (1, 40, 20)] + [text(n) for n in (33, 64, 100)]
    stopping = Stopping(llm.engine._executor)
    monkeypatch.setattr(llm.engine, "_executor", stopping)
    for ids, done in zip(texts, llm.batch(texts, max_tokens=12, sampling=GREEDY), strict=True):
        assert list(done.tokens) == alone(name, ids)
    session = llm.session()
    session.extend(texts[1])
    fork = session.fork()
    fork.truncate(80)
    for part in (session, fork):
        ids = list(part.tokens)
        assert list(part.generate(max_tokens=12, sampling=GREEDY).tokens) == alone(name, ids)
    assert stopping.stopped > 10


def test_answers_that_are_cancelled_leave_no_trace(name: str, llm: LLM) -> None:
    """Some end after a few tokens, some while their prompt is read beside others, whose answers are as ever."""
    shared = text(70)
    for n in range(6):
        ids = [*shared[: 70 - 11 * n], *text(60)]
        streams = [llm.stream([*ids, *text(i)], max_tokens=40, sampling=ON) for i in (90, 5, 40)]
        for _ in range(n):
            next(streams[1])
        for stream in streams:
            stream.cancel()
        assert list(llm.generate(ids, max_tokens=12, sampling=GREEDY).tokens) == alone(name, ids)


def test_sessions_go_back_and_part(name: str, llm: LLM) -> None:
    session = llm.session()
    session.extend(text(130))
    for length in (130, 129, 96, 64, 20, 1):
        session.truncate(length)
        fork = session.fork()
        assert list(fork.generate(max_tokens=12, sampling=GREEDY).tokens) == alone(name, list(session.tokens))


def test_why_tells_of_states_and_windows_and_of_texts_that_made_room_alone() -> None:
    """Where a text goes on or is cut, it is read from where a state, or what windows see, was kept."""
    state = "tokens were in the cache; reading goes on from a state, which is kept at the end of some pages of 32"
    with load("qwen35", n_ctx=128) as llm:
        session = llm.session()
        session.generate(text(98), max_tokens=1, sampling=ON)
        total = len(session.tokens) + 5
        session.generate(text(5), max_tokens=1, sampling=ON)
        assert session.why.startswith(f"96 of the {total} {state}")
        session.truncate(70)
        session.extend([])
        assert session.why.startswith(f"64 of the 70 {state}")
        llm.generate(text(126), max_tokens=1)
        session.extend(text(3))
        assert "what was read of it before, up to token 70, had to make room for other texts" in session.why
    with load("gemma3", n_ctx=2048) as llm:
        session = llm.session()
        session.extend(text(1000))
        session.truncate(40)
        session.extend([])
        none = "none of the 40 tokens were in the cache; more of the text is there, but no longer what windows see"
        assert session.why.startswith(none)


@pytest.mark.parametrize("length", [30, 64, 131])
def test_files_of_sessions(name: str, llm: LLM, length: int, tmp_path: Path) -> None:
    session, path = llm.session(), tmp_path / "a.session"
    session.extend(text(length))
    session.save(path)
    assert path.read_bytes()[15] == 2  # the version
    with load(name) as other:
        loaded = other.session()
        loaded.load(path)
        assert loaded.tokens == session.tokens
        done = loaded.generate(max_tokens=12, sampling=GREEDY)
        assert done.usage.cached_tokens >= (length - 1) // 32 * 32
        assert list(done.tokens) == alone(name, list(session.tokens))
        check_pages(other.model.scheduler)
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SessionError, match="checksum"):
        llm.session().load(path)


def test_a_text_longer_than_the_context_goes_on(name: str) -> None:
    """Where the context shifts the oldest tokens go, and what stays is read anew."""
    with load(name, n_ctx=64) as llm:
        session = llm.session()
        done = session.generate(text(40), max_tokens=60, sampling=ON, overflow="shift")
        assert len(done.tokens) == 60


def test_the_order_of_steps_leaves_no_trace(name: str, llm: LLM) -> None:
    ids = text(200)
    want = llm.logits(ids)
    for batch in (1, 7, 64):
        with load(name, n_batch=batch) as other:
            np.testing.assert_array_equal(other.logits(ids), want)


def test_no_page_is_lost(name: str) -> None:
    with load(name, n_ctx=128, n_cache=160) as llm:
        for _ in range(30):
            llm.generate(text(int(RNG.integers(1, 110))), max_tokens=5, sampling=GREEDY)
        scheduler: Scheduler = llm.model.scheduler
        check_pages(scheduler)
