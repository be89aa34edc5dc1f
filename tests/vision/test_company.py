"""Answers about pictures are the same bits alone and in company, from the cache and anew, in any cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from llamaq import LLM, SamplingParams
from llamaq.errors import ReceiptError
from llamaq.vision import encoder
from vision_cases import EMBEDDED, picture

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}b{% endfor %}"
SAMPLING = SamplingParams(temperature=0, logprobs=5)
SIZES = [(64, 64), (40, 90), (64, 64)]
Numbers = list[tuple[int | None, float | None, Any]]


@pytest.fixture(scope="module", params=EMBEDDED)
def load(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> Callable[..., LLM]:
    path, mmproj = (shared(f"tiny-models/{request.param}{end}.gguf") for end in ("", "-mmproj"))

    def load(**options: Any) -> LLM:
        return LLM.load(path, mmproj=mmproj, **{"threads": 1, **options})

    return load


def asked(number: int, turns: int = 1) -> list[dict[str, Any]]:
    """A conversation about a picture of its own."""
    shown = {"type": "image", "image": picture(*SIZES[number], seed=number)}
    said: list[dict[str, Any]] = [{"role": "user", "content": [shown, {"type": "text", "text": f"ab{number}"}]}]
    for turn in range(1, turns):
        said += [{"role": "assistant", "content": "c"}, {"role": "user", "content": f"and {turn}"}]
    return said


def numbers(llm: LLM, messages: list[dict[str, Any]]) -> tuple[Numbers, int]:
    """Tokens of the answer and what could have been there, and how many of the prompt's came from the cache."""
    stream = llm.chat(messages, template=TEMPLATE, max_tokens=5, sampling=SAMPLING, stream=True)
    found = [(event.token, event.logprob, event.top_logprobs) for event in stream]
    return found, stream.usage.cached_tokens


@pytest.fixture(scope="module")
def alone(load: Callable[..., LLM]) -> list[Numbers]:
    """Each conversation, of one turn and of two, by a model that has read nothing else."""
    found = []
    for i in range(len(SIZES)):
        for turns in (1, 2):
            with load() as llm:
                found.append(numbers(llm, asked(i, turns))[0])
    return found


@pytest.fixture
def llm(load: Callable[..., LLM]) -> Iterator[LLM]:
    with load() as llm:
        yield llm


def test_pictures_are_told_apart(alone: list[Numbers]) -> None:
    assert len({repr(each) for each in alone}) == len(alone)


def test_what_was_read_is_reused(llm: LLM, alone: list[Numbers]) -> None:
    for i in range(len(SIZES)):
        first, again = numbers(llm, asked(i)), numbers(llm, asked(i))
        longer, cached = numbers(llm, asked(i, 2))
        assert first[0] == again[0] == alone[2 * i]
        assert again[1] > first[1]
        assert cached > 0
        assert longer == alone[2 * i + 1]


@pytest.mark.parametrize("options", [{"n_batch": 19}, {"threads": 2}])
def test_cuts_and_threads(load: Callable[..., LLM], options: dict[str, int], alone: list[Numbers]) -> None:
    with load(**options) as llm:
        assert [numbers(llm, asked(i // 2, 1 + i % 2))[0] for i in range(len(alone))] == alone


def test_many_at_once(load: Callable[..., LLM], alone: list[Numbers]) -> None:
    with load(n_cache=4096) as llm, ThreadPoolExecutor(len(alone)) as pool:
        jobs = [pool.submit(numbers, llm, asked(i // 2, 1 + i % 2)) for i in range(len(alone))]
        assert [job.result()[0] for job in jobs] == alone


def test_rows_that_were_let_go_are_made_again(load: Callable[..., LLM], alone: list[Numbers]) -> None:
    with mock.patch.multiple(encoder, STORE_BYTES=1, STORE_PICTURES=0), load() as llm:
        assert llm.model.encoder is not None
        for _ in range(2):
            assert [numbers(llm, asked(i))[0] for i in range(len(SIZES))] == alone[::2]
            assert len(llm.model.encoder._kept) == 1
        assert numbers(llm, asked(0))[1] > 0  # the ids of its rows are those of before, so the cache knows them


def test_what_cannot_be_with_pictures(llm: LLM) -> None:
    for overflow in ("truncate_left", "shift"):
        with pytest.raises(ValueError, match="overflow must be 'error' for a prompt with pictures"):
            llm.chat(asked(0), template=TEMPLATE, overflow=overflow)
    with pytest.raises(ReceiptError, match="what a picture shows"):
        llm.chat(asked(0), template=TEMPLATE, receipt=True)
