"""A model in stages on a cluster writes what it writes in one process, also when a stage is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from asgi import TEMPLATE
from llamaq import LLM, SamplingParams
from llamaq.distributed.ray import staged
from llamaq.llm.llm import Completion
from ray_clusters import cluster_of, kill_actor
from waiting import wait_until

PROMPTS = ["Once upon a time", "Tom saw", "A very long day " * 9, "One day Sue", "The dog", "x", "Ann and Bob"] * 3
SAMPLINGS = [SamplingParams(seed=i) for i in range(len(PROMPTS))]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with cluster_of(2, 2) as (address, _, _):
        ray.init(address=address, log_to_driver=False)
        yield


@pytest.fixture(scope="module")
def expected(stories: Path) -> list[Any]:
    with LLM.load(stories, n_ctx=128, n_cache=1024, threads=1) as llm:
        done = llm.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60)
    return told(done)


def told(done: Sequence[Completion]) -> list[Any]:
    return [(each.text, each.tokens, each.finish_reason) for each in done]


@pytest.mark.parametrize(("stages", "texts"), [(2, 8), (3, 2)])
def test_stages_write_what_one_process_writes(stories: Path, expected: list[Any], stages: int, texts: int) -> None:
    with staged(stories, stages=stages, n_ctx=128, texts=texts, n_batch=24, threads=1) as model:
        assert len(model.cuts) == stages + 1
        assert told(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60)) == expected


def test_chats_of_stages(stories: Path) -> None:
    said = [{"role": "user", "content": "Tell of a cat " * 5}]
    options: dict[str, Any] = {"template": TEMPLATE, "max_tokens": 12, "sampling": SamplingParams(seed=3)}
    with LLM.load(stories, n_ctx=128, threads=1) as llm, staged(stories, n_ctx=128, texts=2, threads=1) as model:
        expected = llm.chat(said, **options)
        for cached in (False, True):
            found = model.chat(said, **options)
            assert found.message == expected.message
            assert (found.usage.cached_tokens > 32) is cached
        assert "".join(event.text for event in model.chat(said, stream=True, **options)) == expected.text


def test_a_stage_that_is_killed_comes_back(stories: Path, expected: list[Any]) -> None:
    with staged(stories, n_ctx=128, texts=4, n_batch=24, threads=1) as model:
        found: list[Any] = []

        def write() -> None:
            found.append(told(model.batch(PROMPTS, samplings=SAMPLINGS, max_tokens=60)))

        thread = threading.Thread(target=write)
        thread.start()
        wait_until(lambda: any(llm.occupancy.running for llm in model.lanes))
        kill_actor("_StageActor")
        thread.join()
        assert found == [expected]
