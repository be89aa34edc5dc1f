"""Stages in a row write what one engine writes, whatever the cuts, the lanes, and the stages that are lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter
from asgi import TEMPLATE
from llamaq import LLM, LlamaqError, SamplingParams
from llamaq.distributed.staged import LocalChain, StagedModel, StageLost, open_lane
from llamaq.distributed.stages import Passed, Stage, StageJob, Work, _split, even_cuts
from llamaq.errors import ContextOverflowError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.llm.llm import Completion
from llamaq.structure import regex
from tiny_models import tiny_model

N_CTX = 96
PROMPTS = ["Once upon a time", "Tom saw", "", "A very long day " * 9, "One day Sue", "The dog", "x", "Ann and Bob"]
SAMPLINGS = [SamplingParams(seed=i) for i in range(len(PROMPTS))]
SAID = [{"role": "user", "content": "Tell of a cat"}]


def told(done: Sequence[Completion]) -> list[Any]:
    return [(each.text, each.tokens, each.finish_reason) for each in done]


@pytest.fixture(scope="module")
def alone(stories: Path) -> Iterator[tuple[LLM, list[Any]]]:
    """The model in one piece, and what it writes."""
    with LLM.load(stories, n_ctx=N_CTX, threads=1) as llm:
        yield llm, told(llm.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=30))


def jobs_of(path: Path, cuts: Sequence[int], lanes: int, n_batch: int = 32, room: int = 2 * N_CTX) -> list[StageJob]:
    return [StageJob(path, first, last, N_CTX, room, lanes, n_batch, threads=1) for first, last in pairwise(cuts)]


def close_all(row: LocalChain) -> None:
    for stage in row.stages:
        stage.close()


@contextmanager
def staged(
    path: Path, cuts: Sequence[int], lanes: int = 2, n_batch: int = 32, chain: type[LocalChain] = LocalChain,
    room: int = 2 * N_CTX,
) -> Iterator[tuple[StagedModel, Any]]:  # fmt: skip
    jobs = jobs_of(path, cuts, lanes, n_batch, room)
    with ExitStack() as stack:
        row = chain([Stage(job) for job in jobs])
        stack.callback(close_all, row)
        llms = [stack.enter_context(open_lane(row, jobs[0], lane)) for lane in range(lanes)]
        yield StagedModel(tuple(cuts), tuple(llms)), row


@pytest.mark.parametrize(("cuts", "lanes", "n_batch"), [([0, 5], 1, 32), ([0, 2, 5], 2, 7), ([0, 1, 2, 3, 5], 4, 32)])
def test_stages_write_what_one_engine_writes(
    alone: tuple[LLM, list[Any]], stories: Path, cuts: list[int], lanes: int, n_batch: int
) -> None:
    with staged(stories, cuts, lanes, n_batch) as (model, _):
        assert told(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=30)) == alone[1]
        assert told(model.batch(PROMPTS[::-1], samplings=SAMPLINGS[::-1], max_tokens=30)) == alone[1][::-1]


@pytest.mark.parametrize("name", ["lfm2", "gemma3", "qwen3next", "llama4", "mamba2"])
def test_windows_and_states_in_stages(name: str) -> None:
    path = tiny_model(name)[0]
    prompts = [[1 + (7 * i + j) % 60 for j in range(40 + 9 * i)] for i in range(5)]
    options: dict[str, Any] = {
        "max_tokens": 50,
        "samplings": [SamplingParams(seed=i, ignore_eos=True) for i in range(5)],
    }
    with LLM.load(path, n_ctx=N_CTX, n_cache=4 * N_CTX, threads=1) as llm:
        expected = told(llm.batch(prompts, **options))
        states = llm.forward(prompts[0], capture=["hidden"]).hidden
    with staged(path, even_cuts(path, 2), 2, 24, room=4 * N_CTX) as (model, _):
        np.testing.assert_array_equal(model.lanes[0].forward(prompts[0], capture=["hidden"]).hidden, states)
        assert told(model.batch(prompts, **options)) == expected
        assert told(model.batch(prompts, **options)) == expected


def test_chats_streams_and_scores(alone: tuple[LLM, list[Any]], stories: Path) -> None:
    llm = alone[0]
    with staged(stories, [0, 3, 5]) as (model, _):
        options: dict[str, Any] = {"template": TEMPLATE, "max_tokens": 12, "sampling": SamplingParams(seed=3)}
        greedy: dict[str, Any] = {"sampling": SamplingParams(temperature=0), "max_tokens": 9}
        expected = llm.chat(SAID, **options)
        assert model.chat(SAID, **options).message == expected.message
        assert "".join(event.text for event in model.chat(SAID, stream=True, **options)) == expected.text

        async def many() -> list[str]:
            return [each.text for each in await asyncio.gather(*(model.achat(SAID, **options) for _ in range(5)))]

        assert asyncio.run(many()) == [expected.text] * 5
        assert "".join(event.text for event in model.stream("Tom", **greedy)) == llm.generate("Tom", **greedy).text
        score, own = (each.score(" upon a time", prompt="Once") for each in (model.lanes[0], llm))
        np.testing.assert_array_equal(score.logprobs, own.logprobs)
        schema = SamplingParams(seed=1, structure=regex("[a-z]{3,9}!"))
        assert (
            model.generate("x", sampling=schema, max_tokens=20).text
            == llm.generate("x", sampling=schema, max_tokens=20).text
        )


@pytest.mark.parametrize("cuts", [[0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]])
def test_what_is_seen_inside(alone: tuple[LLM, list[Any]], stories: Path, cuts: list[int]) -> None:
    """Embeddings, and the values between and in the layers, whichever stage has them."""
    text = "A very long day " * 9
    with staged(stories, cuts, n_batch=24) as (model, _):
        for lane in model.lanes:
            np.testing.assert_array_equal(lane.embed(PROMPTS[:4]), alone[0].embed(PROMPTS[:4]))
        found, own = (llm.forward(text, capture=["hidden", "attention"]) for llm in (model.lanes[0], alone[0]))
    for one, other in ((found.logits, own.logits), (found.hidden, own.hidden)):
        np.testing.assert_array_equal(one, other)
    assert [*found.attention] == [0, 1, 2, 3, 4]
    for layer, seen in found.attention.items():
        np.testing.assert_array_equal(seen, own.attention[layer])


def test_what_begins_alike_is_read_once(alone: tuple[LLM, list[Any]], stories: Path) -> None:
    """Pages are shared, copied where texts part within one, and cut: the stages are told of all of it."""
    found: list[list[str]] = []
    begin = alone[0].prompt_ids("A very long day " * 9)
    with staged(stories, [0, 2, 5], 3) as (model, _):
        first = model.generate(begin, max_tokens=5)
        again = model.generate([*begin[:-3], 44, 45, 46, 47], sampling=SamplingParams(seed=4), max_tokens=12)
        assert first.usage.cached_tokens == 0
        assert again.usage.cached_tokens == len(begin) - 3
        own = alone[0].generate([*begin[:-3], 44, 45, 46, 47], sampling=SamplingParams(seed=4), max_tokens=12)
        assert told([again]) == told([own])
        for llm in (model.lane(begin), alone[0]):
            session = llm.session()
            session.extend("Tom saw a dog and a cat in the big park")
            session.truncate(7)
            greedy: dict[str, Any] = {"sampling": SamplingParams(temperature=0), "max_tokens": 9}
            found.append([session.fork().generate(" house", **greedy).text, session.generate(**greedy).text])
        assert found[0] == found[1]
        session = model.lanes[0].session()
        session.extend("Tom saw a dog")
        with pytest.raises(ModelError, match="cannot be saved"):
            session.save(stories.with_suffix(".none"))


class Losing(LocalChain):
    """A chain that loses a stage now and then, with all that it knew."""

    odds = 0.1
    cuts: Sequence[int] = (0, 2, 5)

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__(stages)
        self._rng = random.Random(4)
        self.lost = 0

    def run(self, work: Work, births: Sequence[str]) -> Passed:
        with threading.Lock():
            number = self._rng.randrange(len(self.stages)) if self._rng.random() < self.odds else None
        if number is not None:
            self.lost += 1
            with self._locks[number]:
                old, self.stages[number] = self.stages[number], Stage(self.stages[number].job)
                old.close()
            if self._rng.random() < 0.5:  # sometimes the first to notice is another
                raise StageLost("killed")
        return super().run(work, births)


def test_a_stage_that_is_lost_changes_nothing(alone: tuple[LLM, list[Any]], stories: Path) -> None:
    with staged(stories, [0, 2, 5], chain=Losing) as (model, chain):
        assert told(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=30)) == alone[1]
        assert chain.lost > 4
        chain.odds = 1.0
        with pytest.raises(LlamaqError, match="stages were lost 8 times in a row; the last time: "):
            model.batch(PROMPTS, max_tokens=3)
        chain.odds = 0.0
        assert told(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=30)) == alone[1]


def test_lanes_follow_each_other_through_the_stages(stories: Path) -> None:
    barrier = threading.Barrier(3)

    class Meeting(LocalChain):
        """Each step waits until one of every lane is on its way."""

        def run(self, work: Work, births: Sequence[str]) -> Passed:
            barrier.wait(60)
            return super().run(work, births)

    with staged(stories, [0, 2, 5], 3, chain=Meeting) as (model, _):
        model.batch(PROMPTS[:3], sampling=SamplingParams(ignore_eos=True), max_tokens=8)


def test_what_cannot_be(stories: Path, tmp_path: Path) -> None:
    name = "blk.3.attn_q.weight"
    with GGUFFile.open(stories) as file:
        rows, cols = file.tensors[name].shape
    adapter = write_adapter(tmp_path / "a.gguf", {name: random_factors(name, rows, cols, 4, 1)})
    with staged(stories, [0, 2, 5]) as (model, _):
        with pytest.raises(ContextOverflowError, match=f"the context {N_CTX}"):
            model.batch([[1] * (N_CTX + 1)], max_tokens=1)
        with pytest.raises(ModelError, match="in stages takes no adapters; merge them"):
            model.lanes[0].load_adapter(adapter)
    with pytest.raises(ValueError, match="stages must be 1 to the 5 layers"):
        even_cuts(stories, 6)


def test_stages_have_even_shares(stories: Path) -> None:
    assert even_cuts(stories, 1) == [0, 5]
    assert even_cuts(stories, 5) == [0, 1, 2, 3, 4, 5]
    assert _split([1, 1, 1, 9, 1, 1], 3) == [0, 3, 4, 6]
    assert _split([5, 1, 1, 1, 1, 1], 2) == [0, 1, 6]
