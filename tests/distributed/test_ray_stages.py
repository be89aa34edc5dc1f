"""A model in stages on a cluster writes what it writes in one process, also when a stage is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from llamaq import LLM, SamplingParams
from llamaq.distributed.pipeline import Text
from llamaq.distributed.ray import staged
from ray_clusters import cluster_of, kill_actor

PROMPTS = ["Once upon a time", "Tom saw", "A very long day " * 9, "One day Sue", "The dog", "x", "Ann and Bob"] * 3
SAMPLINGS = [SamplingParams(seed=i) for i in range(len(PROMPTS))]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with cluster_of(2, 2) as (address, _, _):
        ray.init(address=address, log_to_driver=False)
        yield


@pytest.fixture(scope="module")
def expected(stories: Path) -> list[Text]:
    with LLM.load(stories, n_ctx=128, n_cache=1024, threads=1) as llm:
        done = llm.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60)
    return [Text(each.text, each.tokens, each.finish_reason) for each in done]


@pytest.mark.parametrize(("stages", "texts"), [(2, 8), (3, 2)])
def test_stages_write_what_one_process_writes(stories: Path, expected: list[Text], stages: int, texts: int) -> None:
    with staged(stories, stages=stages, n_ctx=128, texts=texts, n_batch=24, threads=1) as model:
        assert len(model.cuts) == stages + 1
        assert model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60) == expected


def test_a_stage_that_is_killed_comes_back(stories: Path, expected: list[Text]) -> None:
    with staged(stories, n_ctx=128, texts=4, n_batch=24, threads=1) as model:
        found: list[list[Text]] = []
        thread = threading.Thread(target=lambda: found.append(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60)))
        thread.start()
        kill_actor("_StageActor")
        thread.join()
        assert found == [expected]
