"""The server as a deployment of Ray Serve: OpenAI's client gets the library's answers from any replica."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import ray
from ray import serve

from asgi import TEMPLATE
from llamaq import LLM, SamplingParams
from llamaq.distributed.ray import openai_app
from ray_clusters import cluster_of, kill_actor
from waiting import wait_until

LOAD = {"n_ctx": 128, "n_cache": 512}
SAID = [{"role": "user", "content": "Tell of a cat"}]


@pytest.fixture(scope="module")
def url(stories: Path) -> Iterator[str]:
    with cluster_of(4) as (address, _, _):
        ray.init(address=address, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": 18431})
        model = {"path": str(stories), "load": LOAD, "num_replicas": 2, "settings": {"template": TEMPLATE}}
        serve.run(openai_app({"small": model}))
        yield "http://127.0.0.1:18431/v1"
        serve.shutdown()


def test_answers_are_the_librarys(url: str, stories: Path) -> None:
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["small"]
    with LLM.load(stories, threads=1, **LOAD) as llm:
        for seed in range(6):
            told = llm.chat(SAID, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=seed)).text
            for stream in (False, True):
                found: Any = client.chat.completions.create(
                    model="small", messages=SAID, max_tokens=8, seed=seed, stream=stream
                )
                pieces = [each.choices[0].delta.content or "" for each in found] if stream else []
                assert ("".join(pieces) if stream else found.choices[0].message.content) == told
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="small", prompt="x", max_tokens=-5)


def test_what_begins_alike_goes_to_one_replica(url: str) -> None:
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    cached = []
    for name in ("Tom", "Sue", "Ann", "Bob"):
        said = [{"role": "user", "content": f"Tell of {name} " * 6}]
        for _ in range(3):
            done: Any = client.chat.completions.create(model="small", messages=said, max_tokens=1)
            cached.append(done.usage.prompt_tokens_details.cached_tokens)
    assert all(count > 0 for i, count in enumerate(cached) if i % 3)


def test_another_answers_for_a_replica_that_is_killed(url: str, stories: Path) -> None:
    """The client, which does not ask twice, sees nothing of it."""
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        said: Any = [{"role": "user", "content": f"Tell of number {number}"}]
        done = client.chat.completions.create(model="small", messages=said, max_tokens=90, seed=1, temperature=1)
        found[number] = done.choices[0].message.content

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(found) > 2)
    kill_actor("ServeReplica:default:model small")
    assert any(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    with LLM.load(stories, threads=1, **LOAD) as llm:
        for number, text in found.items():
            said = [{"role": "user", "content": f"Tell of number {number}"}]
            told = llm.chat(said, template=TEMPLATE, max_tokens=90, sampling=SamplingParams(seed=1, temperature=1))
            assert text == told.text
    assert len(found) == len(threads)
