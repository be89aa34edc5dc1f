"""Stages in a row write what one engine writes, whatever the cuts, the groups, and the stages that are lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq import LLM, LlamaqError, SamplingParams
from llamaq.distributed.pipeline import LocalChain, Pipeline, StageLost, Text
from llamaq.distributed.stages import Stage, StageJob, Work, _split, even_cuts
from llamaq.errors import ContextOverflowError

N_CTX, TEXTS = 96, 5
PROMPTS = ["Once upon a time", "Tom saw", "", "A very long day " * 9, "One day Sue", "The dog", "x", "Ann and Bob"]
SAMPLINGS = [SamplingParams(seed=i) for i in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def alone(stories: Path) -> Iterator[tuple[LLM, list[Text]]]:
    """The model in one piece, and what it writes."""
    with LLM.load(stories, n_ctx=N_CTX, threads=1) as llm:
        done = llm.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=30)
        yield llm, [Text(each.text, each.tokens, each.finish_reason) for each in done]


def test_texts_may_fill_the_context(alone: tuple[LLM, list[Text]], stories: Path) -> None:
    llm, _ = alone
    prompts, samplings = PROMPTS[:4], [SamplingParams(seed=i, ignore_eos=True) for i in range(4)]
    done = llm.batch(prompts, samplings=samplings)
    assert {each.finish_reason for each in done} == {"context"}
    pipeline = pipeline_of(LocalChain(stages_of(stories, [0, 3, 5])), llm, 2)
    found = pipeline.write([llm.prompt_ids(prompt) for prompt in prompts], samplings, None)
    assert found == [Text(each.text, each.tokens, each.finish_reason) for each in done]


def stages_of(path: Path, cuts: Sequence[int], n_batch: int = 32) -> list[Stage]:
    pairs = pairwise(cuts)
    return [Stage(StageJob(path, first, last, N_CTX, TEXTS, n_batch, threads=1)) for first, last in pairs]


def pipeline_of(chain: Any, llm: LLM, groups: int, n_batch: int = 32) -> Pipeline[Any]:
    return Pipeline(chain, llm.tokenizer, n_ctx=N_CTX, texts=TEXTS, n_batch=n_batch, groups=groups)


@pytest.mark.parametrize(("cuts", "groups", "n_batch"), [([0, 5], 1, 32), ([0, 2, 5], 2, 7), ([0, 1, 2, 3, 5], 4, 32)])
def test_stages_write_what_one_engine_writes(
    alone: tuple[LLM, list[Text]], stories: Path, cuts: list[int], groups: int, n_batch: int
) -> None:
    llm, expected = alone
    stages = stages_of(stories, cuts, n_batch)
    chain = LocalChain(stages)
    pipeline = pipeline_of(chain, llm, groups, n_batch)
    ids = [llm.prompt_ids(prompt) for prompt in PROMPTS]
    assert pipeline.write(ids, SAMPLINGS, 30) == expected
    assert pipeline.write(ids[::-1], SAMPLINGS[::-1], 30) == expected[::-1]
    chain.close()
    for stage in stages:
        stage.close()


class Losing(LocalChain):
    """A chain that loses a stage now and then, with all that it knew."""

    def __init__(self, path: Path, cuts: Sequence[int], odds: float) -> None:
        super().__init__(stages_of(path, cuts))
        self._path, self._cuts, self._odds = path, cuts, odds
        self._rng = random.Random(4)
        self.lost = 0

    def logits(self, future: Future[NDArray[np.float32]]) -> NDArray[np.float32]:
        if self.lost < 8 and self._rng.random() < self._odds:
            raise StageLost("killed")
        return super().logits(future)

    def recover(self) -> None:
        self.lost += 1
        number = self._rng.randrange(len(self._cuts) - 1)
        threads, self._stages = self._threads, list(self._stages)
        threads[number].submit(lambda: None).result()  # what it was sent comes to its end
        self._stages[number] = stages_of(self._path, self._cuts[number : number + 2])[0]


def test_a_stage_that_is_lost_changes_nothing(alone: tuple[LLM, list[Text]], stories: Path) -> None:
    llm, expected = alone
    chain = Losing(stories, [0, 2, 5], 0.1)
    ids = [llm.prompt_ids(prompt) for prompt in PROMPTS]
    assert pipeline_of(chain, llm, 2).write(ids, SAMPLINGS, 30) == expected
    assert chain.lost > 2
    hopeless = Losing(stories, [0, 2, 5], 1.0)
    hopeless.lost = -99
    with pytest.raises(LlamaqError, match="stages were lost 9 times; the last time: killed"):
        pipeline_of(hopeless, llm, 2).write(ids, SAMPLINGS, 30)


def test_groups_follow_each_other_through_the_stages(alone: tuple[LLM, list[Text]], stories: Path) -> None:
    llm, _ = alone
    begun: list[int] = []

    class Watched(LocalChain):
        def begin(self, work: Work) -> Future[NDArray[np.float32]]:
            self.running = getattr(self, "running", 0) + 1
            begun.append(self.running)
            return super().begin(work)

        def logits(self, future: Future[NDArray[np.float32]]) -> NDArray[np.float32]:
            self.running -= 1
            return super().logits(future)

    ids = [llm.prompt_ids(prompt) for prompt in PROMPTS]
    pipeline_of(Watched(stages_of(stories, [0, 2, 5])), llm, 3).write(ids, SAMPLINGS, 8)
    assert max(begun) == 3


def test_what_cannot_be(alone: tuple[LLM, list[Text]], stories: Path) -> None:
    llm, _ = alone
    with pytest.raises(ContextOverflowError, match=f"the context {N_CTX}"):
        pipeline_of(None, llm, 1).write([[1] * (N_CTX + 1)], SAMPLINGS[:1], 1)
    with pytest.raises(ValueError, match="stages must be 1 to the 5 layers"):
        even_cuts(stories, 6)


def test_stages_have_even_shares(stories: Path) -> None:
    assert even_cuts(stories, 1) == [0, 5]
    assert even_cuts(stories, 5) == [0, 1, 2, 3, 4, 5]
    assert _split([1, 1, 1, 9, 1, 1], 3) == [0, 3, 4, 6]
    assert _split([5, 1, 1, 1, 1, 1], 2) == [0, 1, 6]
