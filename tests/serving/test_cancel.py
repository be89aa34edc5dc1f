"""Answers that end early: cancelled, out of time, by Ctrl-C, collected as garbage, with their model or the process."""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import CancelledError, ClosedError
from llamaq.serving.workers import Workers
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)


def test_cancel_from_another_thread(llm: LLM) -> None:
    stream = llm.stream("Once upon a time")
    next(stream)
    threading.Thread(target=stream.cancel).start()
    events = list(stream)
    assert events[-1].finish_reason in ("cancelled", "context", "stop")
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"


@pytest.fixture
def endless(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Steps of the model that would never end, but for their flag; the event says that one has begun."""
    began, stopped = threading.Event(), threading.Event()

    class Flag:
        def set(self, on: bool = True) -> None:
            (stopped.set if on else stopped.clear)()

    def forward(*args: Any, **kwargs: Any) -> Any:
        began.set()
        stopped.wait()
        raise CancelledError("stopped")

    real = llm.engine.forward
    flag = llm.model.scheduler._stop
    with monkeypatch.context() as patch:
        patch.setattr(llm.model.scheduler, "_stop", Flag())
        patch.setattr(llm.engine, "forward", forward)
        yield began
    wait_until(lambda: llm.model.scheduler.idle)
    assert llm.engine.forward == real
    assert llm.model.scheduler._stop is flag
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"


def test_cancel_stops_the_step_that_runs(llm: LLM, endless: threading.Event) -> None:
    stream = llm.stream("Once upon a time")
    endless.wait()
    stream.cancel()
    assert [event.finish_reason for event in stream] == ["cancelled"]


def test_a_timeout_stops_the_step_that_runs(llm: LLM, endless: threading.Event) -> None:
    assert llm.generate("Once upon a time", timeout=0.01).finish_reason == "cancelled"


@pytest.mark.parametrize("where", ["main", "elsewhere"])
@pytest.mark.parametrize("what", ["generate", "logits", "batch"])
def test_ctrl_c_stops_the_step_that_runs(llm: LLM, endless: threading.Event, what: str, where: str) -> None:
    """A signal may come just before the main thread begins to wait, and so does not wake it."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        endless.wait()
        signal.pthread_kill(main if where == "main" else threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        getattr(llm, what)(["Tom", "Lily"] if what == "batch" else "Tom")
    thread.join()


def test_a_timeout_ends_the_answer_with_what_there_is(llm: LLM) -> None:
    assert llm.generate("Once", timeout=0).finish_reason == "cancelled"
    done = llm.generate("Once", timeout=0.002, sampling=GREEDY)
    assert done.finish_reason in ("cancelled", "context")
    whole = llm.generate("Once", sampling=GREEDY)
    assert whole.tokens[: len(done.tokens)] == done.tokens
    assert whole.text.startswith(done.text)


@pytest.mark.parametrize(
    "timeout", [1e10, 1e300, 10**400, math.inf, None, np.float32(1e12), np.int64(2**62)], ids=lambda x: str(x)[:9]
)
def test_no_timeout_is_too_long(llm: LLM, timeout: Any) -> None:
    def generate() -> None:
        reasons.append(llm.generate("Once", max_tokens=3, timeout=timeout).finish_reason)

    reasons: list[str] = []
    thread = threading.Thread(target=generate)
    thread.start()
    thread.join()
    generate()
    reasons.append(asyncio.run(llm.agenerate("Once", max_tokens=3, timeout=timeout)).finish_reason)
    assert reasons == ["length"] * 3


def test_a_long_wait_is_made_of_several(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaq.serving.stream.LONGEST", 0.0001)
    want = llm.generate("Once", max_tokens=30, sampling=GREEDY)
    assert asyncio.run(llm.agenerate("Once", max_tokens=30, sampling=GREEDY, timeout=1e10)).tokens == want.tokens


@pytest.mark.parametrize("timeout", [math.nan, -1, -0.001, -math.inf, True, "5", b"5", [1], np.array([1.0])])
def test_what_is_no_timeout_is_refused_by_name(llm: LLM, timeout: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="timeout must be a number of at least 0, got "):
        llm.generate("Once", max_tokens=3, timeout=timeout)
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"


def test_a_stream_that_nobody_holds_ends(llm: LLM) -> None:
    stream = llm.stream("Once upon a time")
    next(stream)
    del stream
    llm.generate("x", max_tokens=1)
    assert llm.model.scheduler._requests == [] or all(r.done for r in llm.model.scheduler._requests)


@pytest.mark.parametrize("where", ["__init__", "start"])
def test_a_stream_that_is_collected_while_the_loop_begins(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The garbage collector may end a stream anywhere, here where a thread is made for the loop: one loop runs."""
    want = llm.generate("Tom", max_tokens=60, sampling=GREEDY)
    dropped = [llm.stream("Once upon a time"), llm.stream("Tom")]
    for stream in dropped:
        next(stream)
    wait_until(lambda: llm.model.scheduler.idle)  # it waits for its reader
    real, forward, inside = getattr(threading.Thread, where), llm.engine.forward, threading.Lock()

    def collects(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        dropped.clear()

    def alone(*args: Any, **kwargs: Any) -> Any:
        assert inside.acquire(blocking=False)
        try:
            return forward(*args, **kwargs)
        finally:
            inside.release()

    monkeypatch.setattr(llm.model.scheduler, "workers", Workers())  # no thread of the first answer is free
    monkeypatch.setattr(threading.Thread, where, collects)
    monkeypatch.setattr(llm.engine, "forward", alone)
    assert llm.generate("Tom", max_tokens=60, sampling=GREEDY).tokens == want.tokens
    assert not dropped


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_while_the_loop_begins(llm: LLM, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not before:
            real(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            llm.generate("Once", max_tokens=3)
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"
    wait_until(lambda: not llm.model.scheduler.workers._busy)


@pytest.mark.parametrize(
    "ask",
    [
        lambda llm: llm.score("Tom", prompt="Once"),
        lambda llm: llm.stream("Once"),
        lambda llm: llm.batch(["Once", "Tom"]),
        lambda llm: asyncio.run(llm.aembed("Once")),
    ],
)
def test_ctrl_c_right_after_requests_have_begun(llm: LLM, monkeypatch: pytest.MonkeyPatch, ask: Any) -> None:
    """Ctrl-C ends requests that nobody waits for yet."""
    scheduler = llm.model.scheduler
    real, begun = scheduler.submit, list[Any]()

    def submit(*requests: Any) -> None:
        begun.extend(requests)
        real(*requests)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "submit", submit)
        with pytest.raises(KeyboardInterrupt):
            ask(llm)
    assert begun
    assert all(request.done for request in begun)
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"


@pytest.mark.subprocess
def test_a_process_ends_whatever_still_runs(stories: Path) -> None:
    script = f"""
import threading
from llamaq import LLM
from llamaq.errors import CancelledError, ClosedError
llm = LLM.load({str(stories)!r}, threads=2)
began, stopped = threading.Event(), threading.Event()
class Flag:
    def set(self, on=True): stopped.set() if on else stopped.clear()
def endless(*args, **kwargs):
    began.set()
    stopped.wait()
    raise CancelledError("stopped")
llm.model.scheduler._stop, llm.engine.forward = Flag(), endless
stream = llm.stream("Once")
def read():
    try: list(llm.stream("Tom"))
    except ClosedError: pass
threading.Thread(target=read, daemon=True).start()
began.wait()
print("end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_close_ends_what_runs(stories: Path) -> None:
    llm = LLM.load(stories, threads=2)
    caught: list[BaseException] = []
    begun = threading.Barrier(4)

    def work() -> None:
        try:
            next(llm.stream("Once upon a time"))
            begun.wait()
            while True:
                llm.generate("Once upon a time", sampling=SamplingParams(seed=1))
        except ClosedError as error:
            caught.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    llm.close()
    for thread in threads:
        thread.join()
    assert len(caught) == 3


def test_a_cancelled_task_and_a_timeout_end_an_answer(llm: LLM) -> None:
    async def run() -> None:
        stream = llm.stream("Once", timeout=0)
        assert [event.finish_reason async for event in stream][-1] == "cancelled"  # what was there already still comes
        stream = llm.stream("Once upon a time")
        task = asyncio.ensure_future(stream.aresult())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream._request.done

    asyncio.run(run())
