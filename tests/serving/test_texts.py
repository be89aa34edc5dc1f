"""Guesses from other texts: found where they were added, forgotten with the memory, and never another owner's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llamaq import LLM, SamplingParams
from llamaq.engine.memory import KEPT_OWNERS, KEPT_TOKENS
from llamaq.serving.request import ASKER
from llamaq.serving.speculation import Costs
from llamaq.serving.texts import KeptTexts, Texts

GREEDY = SamplingParams(temperature=0)


def test_what_was_added_is_found() -> None:
    texts = Texts(64)
    assert texts.guess([1, 2, 3], 4) == ([], 0)
    texts.add([9, 1, 2, 3, 4, 5])
    texts.add([8, 1, 2, 3, 6])
    assert texts.guess([1, 2, 3], 4) == ([6], 3)  # the latest, up to the end of its text
    assert texts.guess([9, 1, 2, 3], 4) == ([4, 5], 4)  # the longest
    assert texts.guess([9, 1, 2, 3], 1) == ([4], 4)
    assert texts.guess([9, 1, 2, 3], 0) == texts.guess([2, 3], 4) == ([], 0)
    assert texts.guess([3, 4, 5], 4) == ([], 3)


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    rng = random.Random(2)
    texts, pieces = Texts(256), [[rng.randrange(2**31) for _ in range(rng.randrange(3, 40))] for _ in range(60)]
    nbytes = texts.nbytes
    for i, piece in enumerate(pieces):
        texts.add(piece)
        for back, old in enumerate(reversed(pieces[: i + 1])):
            found = texts.guess(old[:3], 40)
            assert found in ((old[3:], 3), ([], 0))
            assert back > 2 or found[1] == 3  # 128 tokens at least are known
    assert texts.guess(pieces[0][:3], 4) == ([], 0)
    assert texts.nbytes == nbytes == 256 * 12
    long = [*range(1000)]
    texts.add(long)
    assert texts.guess(long[-9:-2], 9) == ([998, 999], 7)


def test_owners_are_few_and_apart() -> None:
    kept = KeptTexts()
    for i in range(KEPT_OWNERS + 1):
        kept.of(str(i)).add([1, 2, 3, i])
    assert kept.of("1").guess([1, 2, 3], 1) == ([1], 3)
    assert kept.of("0").guess([1, 2, 3], 1) == ([], 0)  # it was forgotten
    assert kept.of("other").guess([1, 2, 3], 1) == ([], 0)


def test_an_answer_that_came_before_is_guessed(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "price", lambda self, rows: 0.1)
    sampling = SamplingParams(temperature=0.8, seed=4, logprobs=1)
    with (
        LLM.load(stories, n_ctx=128, threads=1) as llm,
        LLM.load(stories, n_ctx=128, threads=1, speculation=False) as no,
    ):
        assert llm.memory.texts == KEPT_OWNERS * KEPT_TOKENS * 12
        assert no.memory.texts == 0
        first = llm.generate("Once upon a time", max_tokens=60, sampling=sampling)
        again = llm.generate("Once upon a time", max_tokens=60, sampling=sampling)
        assert again.events == first.events == no.generate("Once upon a time", max_tokens=60, sampling=sampling).events
        assert again.usage.accepted_tokens > 40
        token = ASKER.set("somebody else")
        try:
            other = llm.generate("Once upon a time", max_tokens=60, sampling=sampling)
        finally:
            ASKER.reset(token)
        assert other.events == first.events
        assert other.usage.accepted_tokens == first.usage.accepted_tokens < 10
