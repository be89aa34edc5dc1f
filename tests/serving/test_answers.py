"""How a real model answers a prompt: stop strings, reasons to end, the context's edge, reuse of the cache."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.errors import ContextOverflowError, ModelError, StructureError
from llamaq.llm.llm import LLM
from llamaq.sampling import Sampler, SamplingParams
from llamaq.serving.answer import Event, StopStrings, common_prefix

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path]) -> Path:
    return shared("models/stories260K-F32.gguf")


@pytest.fixture(scope="module")
def llm(model: Path) -> Iterator[LLM]:
    with LLM.load(model, threads=1, cache_type="f32") as llm:
        yield llm


@pytest.fixture(scope="module")
def story(model: Path) -> str:
    """What the model says greedily from BOS on, by an independent implementation."""
    text: str = json.loads(model.with_suffix(".ref.json").read_text(encoding="utf-8"))["text"]
    return text


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text before the stop string that is complete first, and that, the longest where several are."""
    for end in range(len(text) + 1):
        found = [s for s in stops if s and text[:end].endswith(s)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


@settings(max_examples=300)
@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", max_size=5), max_size=4),
    st.lists(st.integers(0, 30), max_size=10),
)
def test_how_text_is_chunked_does_not_matter_to_stop_strings(text: str, stops: list[str], cuts: list[int]) -> None:
    filter = StopStrings(stops)
    shown = ""
    expected, stop = cut(text, stops)
    places = [0, *sorted(cuts), len(text)]
    for start, end in itertools.pairwise(places):
        shown += filter.push(text[start:end])
        assert expected.startswith(shown)  # never a part of a stop string
    shown += filter.flush()
    assert shown == expected
    assert filter.hit == stop


def test_text_is_held_back_no_longer_than_needed() -> None:
    filter = StopStrings(["\n\nUser:"])
    assert filter.push("Hi.\n") == "Hi."
    assert filter.push("You") == "\nYou"
    assert filter.push("\n\nUser") == ""
    assert filter.push("s") == "\n\nUsers"
    assert filter.push(" \n\nUser: x") == " "
    assert filter.hit == "\n\nUser:"
    assert filter.push("more") == filter.flush() == ""


@pytest.mark.parametrize(("a", "b", "n"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 5, 3], 1)])
def test_common_prefix(a: list[int], b: list[int], n: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == n


def test_the_recorded_text_comes_piece_by_piece(llm: LLM, story: str) -> None:
    stream = llm.stream("", max_tokens=200, sampling=GREEDY)
    events = list(stream)
    assert text_of(events) == story
    assert len(events) == 201
    assert [e.token is None for e in events] == [False] * 200 + [True]
    assert [e.finish_reason for e in events] == [None] * 200 + ["length"]
    assert stream.usage.prompt_tokens == 1
    assert stream.usage.completion_tokens == 200


def test_a_space_after_the_prompt_belongs_to_the_answer(llm: LLM, story: str) -> None:
    prompt = "Once upon a time, there was"
    answer = llm.generate(prompt, max_tokens=20, sampling=GREEDY).text
    assert answer.startswith(" a little girl")
    assert story.startswith(prompt + answer)


@pytest.mark.parametrize("stop", ["time", "Lily", " big, red", "there was a little girl named Lily. She"])
def test_a_stop_string_ends_the_text_before_it(llm: LLM, story: str, stop: str) -> None:
    events = list(llm.stream("", max_tokens=200, sampling=GREEDY, stop=["not there", stop]))
    assert text_of(events) == story[: story.index(stop)]
    assert (events[-1].finish_reason, events[-1].stop) == ("stop", stop)
    assert events[-1].token is not None
    assert {event.stop for event in events[:-1]} == {None}
    assert llm.generate("", max_tokens=200, sampling=GREEDY, stop=["not there", stop]).stop == stop


def test_what_looked_like_a_stop_string_comes_out_at_the_end(llm: LLM, story: str) -> None:
    whole = llm.generate("", max_tokens=10, sampling=GREEDY).text
    held = llm.generate("", max_tokens=10, sampling=GREEDY, stop=[whole[-4:] + "never"])
    assert held.text == whole
    assert held.finish_reason == "length"


def test_an_end_token_ends_the_text_and_is_not_part_of_it(model: Path) -> None:
    with LLM.load(model, threads=1) as llm:
        prompt = llm.prompt_ids("")
        second = llm.generate(prompt, max_tokens=2, sampling=GREEDY).tokens[1]
        llm.tokenizer.special = replace(llm.tokenizer.special, eog_ids=frozenset({second}))
        done = llm.generate(prompt, sampling=GREEDY)
    assert (done.finish_reason, done.stop) == ("stop", None)
    assert len(done.tokens) == done.usage.completion_tokens == 1
    assert second not in done.tokens


def test_no_tokens_at_all(llm: LLM) -> None:
    assert list(llm.stream("Once", max_tokens=0)) == [Event("", None, "length")]
    with pytest.raises(ValueError, match="max_tokens"):
        llm.stream("Once", max_tokens=-1)


def test_no_forward_pass_is_wasted_on_the_last_token(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    forward = llm.engine.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(llm.engine, "forward", counted)
    llm.generate([1, 2, 3], max_tokens=4, sampling=GREEDY)
    assert calls == 4  # one for the prompt, three for the tokens that another one follows


def test_the_context_ends_the_text(model: Path, story: str) -> None:
    with LLM.load(model, n_ctx=16, threads=1, cache_type="f32") as llm:
        events = list(llm.stream("", sampling=GREEDY))
        assert events[-1].finish_reason == "context"
        assert sum(e.token is not None for e in events) == 16  # the last one is not read any more
        assert story.startswith(text_of(events))
        again = llm.generate("", max_tokens=16, sampling=GREEDY)
        assert again.finish_reason == "length"
        assert again.text == text_of(events)


def test_a_prompt_that_fills_the_context_gets_one_token(model: Path) -> None:
    with LLM.load(model, n_ctx=8, threads=1) as llm:
        done = llm.generate([1] * 8)
        assert (len(done.tokens), done.finish_reason) == (1, "context")
        with pytest.raises(ContextOverflowError, match=r"9 tokens.* 8") as error:
            llm.stream([1] * 9)
        assert (error.value.needed, error.value.available) == (9, 8)


def test_an_empty_prompt_starts_from_bos(llm: LLM) -> None:
    assert llm.prompt_ids("") == llm.prompt_ids([]) == llm.prompt_ids(b"") == [llm.tokenizer.bos_id]


def test_a_prefix_in_the_cache_is_not_read_again_and_changes_no_bit(model: Path) -> None:
    long = "Once upon a time, there was a little girl named Lily. She loved to play"
    with LLM.load(model, threads=1, n_batch=4) as llm:
        alone = llm.generate(long, max_tokens=30, sampling=GREEDY)
        assert alone.usage.cached_tokens == 0
        llm.generate(long + " outside. Then", max_tokens=3, sampling=GREEDY)
        shared_tokens = common_prefix(llm.prompt_ids(long), llm.prompt_ids(long + " outside. Then"))
        reused = llm.generate(long, max_tokens=30, sampling=GREEDY)
        assert reused.usage.cached_tokens == min(shared_tokens, reused.usage.prompt_tokens - 1) > 0
        whole = llm.generate(long, max_tokens=30, sampling=GREEDY)
        assert whole.usage.cached_tokens == whole.usage.prompt_tokens - 1
        assert alone.tokens == reused.tokens == whole.tokens
        ids = llm.prompt_ids(long)
        at_once = llm.logits(ids)
    with LLM.load(model, threads=1, n_batch=1) as llm:
        assert np.array_equal(at_once, llm.logits(ids))


def test_going_on_with_the_answer_reads_only_what_is_new(llm: LLM) -> None:
    first = llm.generate("Lily", max_tokens=12, sampling=GREEDY)
    ids = [*llm.prompt_ids("Lily"), *first.tokens]
    more = llm.generate(ids, max_tokens=12, sampling=GREEDY)
    assert more.usage.cached_tokens == len(ids) - 1
    assert [*first.tokens, *more.tokens] == list(llm.generate("Lily", max_tokens=24, sampling=GREEDY).tokens)


def test_an_abandoned_stream_leaves_a_sound_cache(llm: LLM) -> None:
    whole = llm.generate("Tom saw", max_tokens=20, sampling=GREEDY)
    stream = llm.stream("Tom saw a big dog and", sampling=GREEDY)
    for _ in range(5):
        next(stream)
    del stream
    assert llm.generate("Tom saw", max_tokens=20, sampling=GREEDY).tokens == whole.tokens


def test_an_interrupted_prompt_leaves_a_sound_cache(llm: LLM) -> None:
    whole = llm.generate([1, 5, 9, 300], max_tokens=10, sampling=GREEDY)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(llm.stream([1, 5, 20, 21, 22], progress=interrupt))
    assert llm.generate([1, 5, 9, 300], max_tokens=10, sampling=GREEDY).tokens == whole.tokens


def test_progress_counts_prompt_tokens(model: Path) -> None:
    with LLM.load(model, threads=1, n_batch=4) as llm:
        calls: list[tuple[int, int]] = []
        next(llm.stream([1] * 10, progress=lambda done, total: calls.append((done, total))))
        assert calls == [(4, 10), (8, 10), (10, 10)]


def test_the_seed_that_was_drawn_gives_the_text_again(llm: LLM) -> None:
    first = llm.generate("Lily", max_tokens=25)
    assert llm.generate("Lily", max_tokens=25, sampling=SamplingParams(seed=first.seed)).text == first.text


def test_a_vocabulary_cannot_be_run(shared: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"llama-spm\.gguf: .*no tensors"):
        LLM.load(shared("vocab/ggml-vocab-llama-spm.gguf"))


@pytest.mark.parametrize("name", ["accept", "forced"])
def test_an_error_behind_the_first_token_ends_its_answer_alone(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As a structure that exceeds a limit there raises one."""
    right = llm.generate("Once", max_tokens=20, sampling=GREEDY).tokens
    real = getattr(Sampler, name)

    def fails(sampler: Sampler, *args: Any) -> Any:
        if sampler.seed == 13:
            raise StructureError("too much")
        return real(sampler, *args)

    monkeypatch.setattr(Sampler, name, fails)
    other = llm.stream("Once", max_tokens=20, sampling=GREEDY)
    with pytest.raises(StructureError, match="too much"):
        llm.generate("Tom", max_tokens=5, sampling=SamplingParams(seed=13))
    assert other.result().tokens == right
