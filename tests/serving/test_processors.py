"""Logit processors have threads of their own: what they wait for comes, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import ClosedError, LlamaqError
from llamaq.sampling import Sampler
from pages import check_pages
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)


def slow_steps(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits for processors as long as its step took: it is to believe that each took an hour."""
    real = llm.model.scheduler._work_on
    monkeypatch.setattr(llm.model.scheduler, "_work_on", lambda here, away, _: real(here, away, 3600.0))


def with_processor(processor: Any) -> SamplingParams:
    return SamplingParams(temperature=0, logit_processors=[processor])


class Held:
    """A processor that waits, once it has been called so often, until it is let go."""

    def __init__(self, calls: int = 1) -> None:
        self.calls, self.began, self.go = calls, threading.Event(), threading.Event()

    def __call__(self, ids: Any, logits: Any) -> None:
        self.calls -= 1
        if self.calls <= 0:
            self.began.set()
            self.go.wait()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("where", ["another thread", "its own thread"])
def test_a_processor_that_waits_for_the_model_gets_its_answer(
    llm: LLM, other: ThreadPoolExecutor, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_steps(llm, monkeypatch)
    want = llm.generate("Tom", max_tokens=10, sampling=GREEDY).tokens
    scores: list[float] = []

    def asks(ids: Any, logits: Any) -> None:
        score = llm.score("Lily saw") if where == "its own thread" else other.submit(llm.score, "Lily saw").result()
        scores.append(score.sum)

    assert llm.generate("Tom", max_tokens=10, sampling=with_processor(asks)).tokens == want
    assert scores == [llm.score("Lily saw").sum] * 10


def test_a_processor_may_ask_for_an_answer_but_not_for_one_that_it_takes_part_in(llm: LLM) -> None:
    def asks(ids: Any, logits: Any) -> None:
        answers.append(llm.generate("Lily", max_tokens=3, sampling=inner).tokens)

    answers: list[Any] = []
    inner = with_processor(lambda ids, logits: None)
    llm.generate("Tom", max_tokens=2, sampling=with_processor(asks))
    assert answers == [llm.generate("Lily", max_tokens=3, sampling=GREEDY).tokens] * 2
    inner = with_processor(asks)
    with pytest.raises(LlamaqError, match="a logit processor asks for an answer that it would take part in itself"):
        llm.generate("Tom", sampling=inner)


def test_others_go_on_while_a_processor_waits(llm: LLM, held: Held) -> None:
    want = llm.generate("Lily", max_tokens=20, sampling=GREEDY).tokens
    stream = llm.stream("Lily", max_tokens=20, sampling=with_processor(held))
    held.began.wait()
    assert llm.generate("Tom", max_tokens=30).finish_reason == "length"
    assert len(llm.batch(["Lily", "Tom"], max_tokens=9)) == 2
    assert llm.score("Lily saw").sum < 0
    assert llm.embed("Lily").shape[0] == 1
    held.go.set()
    assert stream.result().tokens == want


def test_a_processor_that_comes_back_wakes_the_loop(
    llm: LLM, held: Held, other: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread would look for itself, now and then."""
    rest, resting = llm.model.scheduler._rest, threading.Event()

    def rests() -> bool:
        resting.set()
        return rest()

    monkeypatch.setattr(llm.model.scheduler, "_rest", rests)
    done = other.submit(llm.generate, "Tom", max_tokens=3, sampling=with_processor(held))
    held.began.wait()
    resting.wait()
    held.go.set()
    assert len(done.result().tokens) == 3


def test_a_reader_that_has_caught_up_is_seen_while_a_processor_waits(llm: LLM, held: Held) -> None:
    want = llm.generate("Tom", max_tokens=60, sampling=GREEDY).tokens
    slow = llm.stream("Tom", max_tokens=60, sampling=GREEDY)
    next(slow)
    while len(slow.tokens) + 7 > len(slow._request.ids):  # it waits for its reader
        time.sleep(0.001)
    stream = llm.stream("Lily", sampling=with_processor(held))
    held.began.wait()
    assert (want[0], *slow.result().tokens) == want
    stream.cancel()


def test_a_score_gets_the_room_of_the_answer_whose_processor_waits_for_it(
    stories: Path, other: ThreadPoolExecutor
) -> None:
    prompt, text = [1, *range(300, 350)], [1, *range(400, 460)]
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        want = llm.generate(prompt, max_tokens=4, sampling=GREEDY).tokens
        sums: list[float] = []

        def asks(ids: Any, logits: Any) -> None:
            sums.append(other.submit(llm.score, text).result().sum)

        assert llm.generate(prompt, max_tokens=4, sampling=with_processor(asks)).tokens == want
        assert sums == [llm.score(text).sum] * 4
        check_pages(llm.model.scheduler)


class Counted:
    """Fails where two calls overlap."""

    def __init__(self) -> None:
        self.inside, self.most, self.calls = 0, 0, 0

    def __call__(self, ids: Any, logits: Any) -> None:
        self.inside += 1
        self.most, self.calls = max(self.most, self.inside), self.calls + 1
        time.sleep(0.0002)
        self.inside -= 1

    also = __call__


@pytest.mark.parametrize("what", ["params", "object", "methods"])
def test_calls_of_one_processor_never_overlap(llm: LLM, what: str) -> None:
    counted = Counted()
    params = with_processor(counted)
    samplings = {
        "params": [params] * 6,
        "object": [with_processor(counted) for _ in range(6)],
        "methods": [with_processor(counted.also if i % 2 else counted.__call__) for i in range(6)],
    }[what]
    prompts = ["Tom", "Lily", "Once", "One day", "A", "B"]
    done = llm.batch(prompts, max_tokens=10, samplings=samplings)
    assert [d.tokens for d in done] == [d.tokens for d in llm.batch(prompts, max_tokens=10, sampling=GREEDY)]
    assert (counted.most, counted.calls) == (1, 60)


def test_processors_of_several_answers_run_side_by_side(llm: LLM) -> None:
    meeting = threading.Barrier(3)

    def meets(number: int) -> Callable[[Any, Any], None]:
        return lambda ids, logits: print(number, meeting.wait())

    samplings = [with_processor(meets(i)) for i in range(3)]
    done = llm.batch(["Tom", "Lily", "Once"], max_tokens=5, samplings=samplings)
    assert [len(d.tokens) for d in done] == [5] * 3


def test_answers_with_quick_processors_share_their_steps(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = llm.engine.forward

    def counted(step: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(step))
        return forward(step, *args, **kwargs)

    monkeypatch.setattr(llm.engine, "forward", counted)
    monkeypatch.setattr(llm.model, "speculation", False)
    slow_steps(llm, monkeypatch)
    samplings = [with_processor(lambda ids, logits: None) for _ in range(4)]
    llm.batch([[300 + i] for i in range(4)], max_tokens=20, samplings=samplings)
    assert sizes == [4] * 20


@pytest.mark.parametrize("how", ["cancel", "timeout", "task"])
def test_an_answer_ends_while_its_processor_waits(
    llm: LLM, held: Held, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm.model, "speculation", False)  # it waits in a step of one token
    held.calls = 4
    want = llm.generate("Tom", max_tokens=3, sampling=GREEDY).text
    stop = [want[-2:] + "never"]

    async def task() -> str:
        one = asyncio.create_task(llm.agenerate("Tom", sampling=with_processor(held)))
        await asyncio.to_thread(held.began.wait)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        return want

    if how == "task":
        text = asyncio.run(task())
    else:
        stream = llm.stream("Tom", sampling=with_processor(held), stop=stop, timeout=0 if how == "timeout" else None)
        held.began.wait()
        if how == "cancel":
            stream.cancel()
        done = stream.result()
        assert (done.finish_reason, len(done.tokens), done.usage.completion_tokens) == ("cancelled", 3, 3)
        text = done.text
    assert text == want  # the text held back for the stop string comes, too
    assert llm.generate("Tom", max_tokens=3, sampling=GREEDY).text == want
    held.go.set()
    assert llm.generate("Tom", max_tokens=3, sampling=with_processor(held)).text == want
    while not llm.model.scheduler.idle:
        time.sleep(0.001)
    assert not llm.model.scheduler._requests


def test_a_model_closes_while_a_processor_waits(stories: Path, held: Held) -> None:
    before = set(threading.enumerate())
    llm = LLM.load(stories, threads=1)
    stream = llm.stream("Tom", sampling=with_processor(held))
    held.began.wait()
    llm.close()
    with pytest.raises(ClosedError):
        stream.result()
    assert llm.model.scheduler.idle
    held.go.set()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_processor_may_close_the_model(stories: Path) -> None:
    llm = LLM.load(stories, threads=1)
    with pytest.raises(ClosedError):
        llm.generate("Tom", sampling=with_processor(lambda ids, logits: llm.close()))


@pytest.mark.subprocess
def test_a_process_ends_whatever_a_processor_waits_for(stories: Path) -> None:
    script = f"""
import threading
from llamaq import LLM, SamplingParams
llm, began = LLM.load({str(stories)!r}, threads=2), threading.Event()
def waits(ids, logits):
    began.set()
    threading.Event().wait()
stream = llm.stream("Tom", sampling=SamplingParams(logit_processors=[waits]))
began.wait()
print("end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_an_answer_fails_alone_where_there_is_no_thread_for_its_processor(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    other = llm.stream("Tom", max_tokens=30, sampling=GREEDY)
    with monkeypatch.context() as patch:
        patch.setattr(llm.model.scheduler.workers, "run", run)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            llm.generate("Lily", sampling=with_processor(lambda ids, logits: None))
    assert len(other.result().tokens) == 30


def test_one_thread_takes_the_processors_of_one_answer_after_the_other(llm: LLM) -> None:
    names: set[int] = set()
    for _ in range(3):
        llm.generate("Tom", max_tokens=9, sampling=with_processor(lambda ids, _: names.add(threading.get_ident())))
    assert len(names) == 1
    assert threading.get_ident() not in names


def test_a_sampler_may_be_used_inside_its_own_processor() -> None:
    import numpy as np

    def again(ids: Any, logits: Any) -> None:
        if len(ids) == 0:
            inner = Sampler(with_processor(again))
            inner.feed([1])
            assert inner.sample(logits) == 2

    logits = np.array([0, 1, 2], np.float32)
    assert Sampler(with_processor(again)).sample(logits) == 2


def test_a_model_tells_how_busy_it_is(stories: Path, held: Held) -> None:
    with LLM.load(stories, threads=1, n_ctx=256, n_cache=256) as small:
        empty = small.occupancy
        assert (empty.running, empty.waiting) == (0, 0)
        assert empty.free_tokens == empty.cache_tokens >= 256
        first = small.stream("Tom", sampling=with_processor(held))
        held.began.wait()
        assert (small.occupancy.running, small.occupancy.waiting) == (1, 0)
        assert small.occupancy.free_tokens < empty.free_tokens
        second = small.stream(small.prompt_ids("Lily saw") * 60)  # there is no room for both
        wait_until(lambda: small.occupancy.waiting == 1)
        assert small.occupancy.running == 1
        for stream in (first, second):
            stream.cancel()
        wait_until(lambda: small.occupancy.running == 0)
        assert small.occupancy.waiting == 0
    with pytest.raises(ClosedError):
        _ = small.occupancy
