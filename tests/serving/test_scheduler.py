"""Many requests on one model: the same bits alone and in company, fair room in the cache."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import ContextOverflowError, LlamaqError, TokenizerError
from llamaq.llm.capture import CapturePlan
from llamaq.serving.reading import PromptRequest, ScoreRequest, wait
from llamaq.serving.stream import Completion, Stream
from waiting import wait_until

GREEDY = SamplingParams(temperature=0)
PROMPTS = ["Once upon a time", "Lily saw a big", "", "Tom and his dog went to the park. Tom", "One day, a"]


def alone(stories: Path, prompts: list[str], **settings: Any) -> list[tuple[int, ...]]:
    """The answers of a model that does one thing at a time."""
    with LLM.load(stories, threads=1, n_ctx=256) as llm:
        return [llm.generate(p, max_tokens=40, sampling=SamplingParams(seed=7), **settings).tokens for p in prompts]


def test_streams_side_by_side_say_what_each_says_alone(llm: LLM, stories: Path) -> None:
    streams = [llm.stream(p, max_tokens=40, sampling=SamplingParams(seed=7)) for p in PROMPTS]
    assert [s.result().tokens for s in streams] == alone(stories, PROMPTS)


def test_threads_side_by_side_say_what_each_says_alone(llm: LLM, stories: Path) -> None:
    prompts = PROMPTS * 4
    got: dict[int, tuple[int, ...]] = {}

    def work(i: int) -> None:
        got[i] = llm.generate(prompts[i], max_tokens=40, sampling=SamplingParams(seed=7)).tokens

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(len(prompts))] == alone(stories, prompts)


def test_logits_are_the_same_in_company(llm: LLM, stories: Path) -> None:
    ids = llm.prompt_ids("Once upon a time there was a little girl who had a red ball and a dog.")
    want = llm.logits(ids)
    streams = [llm.stream(p, max_tokens=200) for p in PROMPTS]
    for stream in streams:
        next(stream)
    results = [threading.Thread(target=stream.result) for stream in streams]
    for thread in results:
        thread.start()
    for _ in range(5):
        np.testing.assert_array_equal(llm.logits(ids), want)
    for thread in results:
        thread.join()


def test_a_step_has_rows_of_many_requests(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = llm.engine.forward

    def watched(step: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(set(step.sequences.tolist())))
        return forward(step, *args, **kwargs)

    monkeypatch.setattr(llm.engine, "forward", watched)
    with llm.model.scheduler.lock:
        streams = [llm.stream(p, max_tokens=30, sampling=SamplingParams(seed=1)) for p in PROMPTS]
        for stream in streams:
            stream.gather()
    for stream in streams:
        stream.result()
    assert max(sizes) == len(PROMPTS)
    assert len(sizes) < 40


def test_equal_prompts_at_once_are_read_once(llm: LLM) -> None:
    prompt = llm.prompt_ids("Once upon a time there was a little girl who had a red ball and a dog. " * 3)
    with llm.model.scheduler.lock:
        streams = [llm.stream(prompt, max_tokens=5) for _ in range(4)]
    done = [stream.result() for stream in streams]
    assert done[0].usage.cached_tokens == 0
    assert [d.usage.cached_tokens for d in done[1:]] == [len(prompt) - 1] * 3
    assert "were in the cache" in streams[1].why


def test_requests_that_find_no_room_wait_and_give_way(stories: Path) -> None:
    """Eight texts of 200 tokens in a cache of 256: they are put off and read anew, and say what each says alone."""
    prompts = [p + " the" for p in [*PROMPTS, "A", "B", "C"]]
    with LLM.load(stories, threads=1, n_ctx=256) as llm:
        want = [llm.generate(p, max_tokens=200, sampling=SamplingParams(seed=3)).tokens for p in prompts]
    with LLM.load(stories, threads=1, n_ctx=256) as llm:
        with llm.model.scheduler.lock:
            streams = [llm.stream(p, max_tokens=200, sampling=SamplingParams(seed=3)) for p in prompts]
        assert [stream.result().tokens for stream in streams] == want


@pytest.mark.parametrize("what", ["score", "hidden"])
def test_a_reading_that_gives_way_begins_again(stories: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is half read when an answer that came first needs one page more than there are."""
    began = []
    text = list(range(300, 360))

    def reading(llm: LLM) -> PromptRequest:
        if what == "score":
            return ScoreRequest(text, 1, llm.tokenizer.n_vocab)
        return CapturePlan(llm.plan, {}, "f16", ["hidden"], None).request(text)

    with LLM.load(stories, threads=1, n_ctx=96, n_batch=7) as llm:
        [want] = wait(llm.model.scheduler, [reading(llm)])
    with LLM.load(stories, threads=1, n_ctx=96, n_batch=7) as llm:
        with llm.model.scheduler.lock:
            stream = llm.stream(list(range(400, 458)), max_tokens=20, sampling=GREEDY)
            stream.gather()
            request = reading(llm)
            begin = request.begin

            def kept() -> None:
                began.append(request.kept)
                begin()

            monkeypatch.setattr(request, "begin", kept)
            llm.model.scheduler.submit(request)
        got = request.future.result()
        assert len(began) > 1
        assert 0 < began[1] < len(text)
        stream.result()
    if what == "score":
        got, want = [got.logprobs], [want.logprobs]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_stream_that_waits_for_its_reader_keeps_no_room_from_others(stories: Path) -> None:
    prompt = [1, *range(300, 350)]
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        want = llm.generate(prompt, sampling=GREEDY).tokens
        stream = llm.stream(prompt, sampling=GREEDY)
        seen = [next(stream).token for _ in range(2)]
        wait_until(lambda: llm.model.scheduler.idle)
        assert llm.generate([1, *range(350, 405)], max_tokens=3).finish_reason == "length"
        assert llm.score([1, *range(400, 460)]).sum < 0
        assert (*seen, *stream.result().tokens) == want


def test_a_slow_reader_who_is_back_finds_the_thread_that_waited(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's event loop would otherwise start threads all the time where the model is quicker."""
    monkeypatch.setattr("llamaq.serving.scheduler._LINGER", 3600.0)
    own = llm.model.scheduler
    stream = llm.stream("Once upon a time", max_tokens=100)
    wait_until(lambda: own._lingers)
    thread = own._thread
    for _ in range(5):
        wait_until(lambda: own._lingers)
        for _ in range(10):
            next(stream)
        assert own._thread is thread
    stream.cancel()
    wait_until(lambda: own.idle)
    assert own._lingers is False


def test_requests_one_after_the_other_find_the_thread_of_the_first(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """To start one would cost a server's event loop more than the rest of asking."""
    own = llm.model.scheduler
    threads: list[threading.Thread] = []
    step = own._step

    def seen(rows: Any) -> Any:
        threads.append(threading.current_thread())
        return step(rows)

    monkeypatch.setattr(own, "_step", seen)
    for _ in range(5):
        llm.generate("Once upon a time", max_tokens=2)
        wait_until(lambda: not own.workers._busy)
    assert own.idle
    assert len(threads) > 5
    assert len(set(threads)) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_slow_readers_lose_nothing_where_the_thread_goes_on_and_off(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr("llamaq.serving.scheduler._LINGER", seconds)
    want = llm.generate("Once upon a time", max_tokens=150, sampling=GREEDY).tokens
    for gap in (0, 9, 17):
        tokens: list[int | None] = []
        for i, event in enumerate(llm.stream("Once upon a time", max_tokens=150, sampling=GREEDY)):
            tokens.append(event.token)
            if gap and i % gap == 0:
                wait_until(lambda: llm.model.scheduler.idle)
        assert tuple(tokens[:-1]) == want


def test_a_text_may_fill_the_context_to_its_end_beside_what_the_cache_keeps(stories: Path) -> None:
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        first = llm.generate("Once upon a time", sampling=GREEDY)
        again = llm.generate("Once upon a time", sampling=GREEDY)
        other = llm.generate("Lily", sampling=GREEDY)
        third = llm.generate("Once upon a time", sampling=GREEDY)
    assert first.finish_reason == other.finish_reason == "context"
    assert first.tokens == again.tokens == third.tokens
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


def test_what_goes_wrong_in_a_step_reaches_who_waits(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    real = llm.engine.forward

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise LlamaqError("a step went wrong")

    monkeypatch.setattr(llm.engine, "forward", broken)
    with pytest.raises(LlamaqError, match="a step went wrong"):
        llm.generate("Once")
    with pytest.raises(LlamaqError, match="a step went wrong"):
        llm.logits([1, 2])
    monkeypatch.setattr(llm.engine, "forward", real)
    assert llm.generate("Once", max_tokens=3).finish_reason == "length"


def test_a_logit_processor_that_fails_ends_its_own_answer_alone(llm: LLM) -> None:
    def fails(ids: Any, logits: Any) -> Any:
        if len(ids) > 8:
            raise ZeroDivisionError("in the processor")

    other = llm.stream("Tom", max_tokens=30, sampling=SamplingParams(seed=7))
    with pytest.raises(ZeroDivisionError, match="in the processor"):
        llm.generate("Once upon a time", sampling=SamplingParams(logit_processors=[fails]))
    assert other.result().tokens == llm.generate("Tom", max_tokens=30, sampling=SamplingParams(seed=7)).tokens


def test_ids_outside_the_vocabulary_touch_nobody(llm: LLM) -> None:
    for ids in ([1, 100_000], [-1]):
        with pytest.raises(TokenizerError, match="token ids are 0 to 511"):
            llm.stream(ids)


@pytest.mark.parametrize("again", [False, True], ids=["first", "cached"])
def test_a_text_of_no_tokens_has_a_score_at_once(llm: LLM, again: bool) -> None:
    if again:
        llm.generate("Lily saw", max_tokens=40)
    score = llm.score("", prompt="Lily saw")
    assert (score.tokens, score.logprobs.shape, score.sum) == ((), (0,), 0.0)
    assert llm.score([]).tokens == ()


def test_a_cancelled_reading_leaves_asyncio_nothing_to_complain_of(llm: LLM) -> None:
    said: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        for _ in range(3):
            task = asyncio.create_task(llm.aembed(["Once upon a time " * 20] * 3))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await llm.aembed("Once")  # the others have ended, too
        gc.collect()

    asyncio.run(main())
    assert said == []


def test_events_for_a_coroutine(llm: LLM) -> None:
    async def read(stream: Stream) -> Completion:
        return await stream.aresult()

    async def both() -> list[Completion]:
        streams = [llm.stream(p, max_tokens=20, sampling=GREEDY) for p in PROMPTS]
        return list(await asyncio.gather(*map(read, streams)))

    want = [llm.generate(p, max_tokens=20, sampling=GREEDY).tokens for p in PROMPTS]
    assert [done.tokens for done in asyncio.run(both())] == want


@pytest.mark.parametrize("overflow", ["truncate_left", "shift"])
def test_a_prompt_is_cut_where_the_caller_asks_for_it(stories: Path, overflow: Any) -> None:
    prompt = [1, *range(300, 400)]
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        done = llm.generate(prompt, max_tokens=10, sampling=GREEDY, overflow=overflow)
        assert done.usage.dropped_tokens == 101 - 54
        assert done.tokens == llm.generate([1, *prompt[-53:]], max_tokens=10, sampling=GREEDY).tokens
        kept = llm.generate(prompt, max_tokens=10, sampling=GREEDY, overflow=overflow, keep=8)
        assert kept.tokens == llm.generate([*prompt[:8], *prompt[-46:]], max_tokens=10, sampling=GREEDY).tokens
        with pytest.raises(ContextOverflowError, match="101 tokens, of which 54 are to be kept, the context 64"):
            llm.generate(prompt, max_tokens=10, overflow=overflow, keep=54)
        for bad in (-1, 63):
            with pytest.raises(ValueError, match="keep must be 0 or more, and leave room"):
                llm.generate(prompt, overflow=overflow, keep=bad)
        with pytest.raises(ValueError, match="overflow"):
            llm.generate(prompt, overflow="never")


def test_a_shifted_context_goes_on_as_if_the_rest_were_the_prompt(stories: Path) -> None:
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        stream = llm.stream("Once upon a time", max_tokens=100, sampling=GREEDY, overflow="shift", keep=3)
        done = stream.result()
        assert len(done.tokens) == 100
        prompt = llm.prompt_ids("Once upon a time")
        text = [*prompt, *done.tokens[: 65 - len(prompt)]]  # the 65th does not fit
        text = text[:3] + text[3 + (65 - 3) // 2 :]
        rest = llm.generate(text, max_tokens=10, sampling=GREEDY).tokens
        assert done.tokens[65 - len(prompt) :][:10] == rest
        assert done.usage.dropped_tokens == 5 + 100 - len(stream.tokens)
