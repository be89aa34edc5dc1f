"""Adapters over HTTP: those that a request names, in company, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters import random_factors, write_adapter
from asgi import TEMPLATE, Client
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app

PROMPT = "Once upon a time there was a little girl"
BODY = {"prompt": PROMPT, "n_predict": 12, "seed": 3, "temperature": 0.8}


@pytest.fixture(scope="module")
def model(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    folder = tmp_path_factory.mktemp("adapters")
    files = {
        write_adapter(folder / f"{name}.gguf", {"blk.1.attn_v.weight": random_factors(name, 32, 64, 4)}): scale
        for name, scale in (("first", 1.0), ("second", 0.0))
    }
    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048, adapters=files) as llm:
        yield llm


@pytest.fixture(scope="module")
def client(model: LLM) -> Client:
    return Client(app(model, Settings(names=("stories",), template=TEMPLATE)))


def test_each_request_has_its_own(model: LLM, client: Client) -> None:
    choices: list[tuple[Any, Any]] = [
        (None, {"first": 1.0}),
        ([], {"first": 1.0}),
        ([{"id": 1, "scale": 2.0}], {"second": 2.0}),
        ([{"id": 0, "scale": 0.5}, {"id": 1, "scale": 0.5}], {"first": 0.5, "second": 0.5}),
        ([{"id": 0, "scale": 0}], {}),
    ]

    async def over_http(lora: Any) -> tuple[str, str]:
        body = BODY if lora is None else {**BODY, "lora": lora}
        native = (await client.apost("/completion", body)).json
        told = native["generation_settings"]["lora"]
        assert told == [{"id": each["id"], "scale": float(each["scale"])} for each in lora or ()]
        openai = await client.apost("/v1/completions", {**body, "max_tokens": 12})
        return native["content"], openai.json["choices"][0]["text"]

    sampling = SamplingParams(seed=3, temperature=0.8)
    want = [model.generate(PROMPT, max_tokens=12, sampling=sampling, adapter=own).text for _, own in choices]
    assert len(set(want)) == 4

    async def all_at_once() -> list[tuple[str, str]]:
        return await asyncio.gather(*(over_http(lora) for lora, _ in choices))

    assert asyncio.run(all_at_once()) == [(text, text) for text in want]


def test_chats_have_them_too(model: LLM, client: Client) -> None:
    chat = {"messages": [{"role": "user", "content": "Lily"}], "max_tokens": 8, "seed": 3}
    texts = [
        client.post("/v1/chat/completions", {**chat, **more}).json["choices"][0]["message"]["content"]
        for more in ({}, {"lora": [{"id": 1, "scale": 3}]}, {"lora": [{"id": 0, "scale": 1}]})
    ]
    assert texts[0] == texts[2] != texts[1]


def test_names_of_models_mean_them(model: LLM, client: Client) -> None:
    """In each protocol, for what asks for nothing else, and for that request alone."""
    sampling = SamplingParams(seed=3, temperature=0.8)
    want = {
        name: model.generate(PROMPT, max_tokens=12, sampling=sampling, adapter=own).text
        for name, own in (
            ("stories", {"first": 1.0}), ("second", {"second": 1.0}), ("stories:second", {"second": 1.0}),
            ("first", {"first": 1.0}),
        )
    }  # fmt: skip
    assert want["second"] == want["stories:second"] != want["first"] == want["stories"]
    prints = set()
    for name in (*want, "stories"):
        found = client.post("/v1/completions", {**BODY, "max_tokens": 12, "model": name}).json
        assert (found["model"], found["choices"][0]["text"]) == (name, want[name])
        prints.add(found["system_fingerprint"])
    assert len(prints) == 2
    body = {**BODY, "max_tokens": 12, "model": "second", "lora": [{"id": 0, "scale": 1}]}
    assert client.post("/v1/completions", body).json["choices"][0]["text"] == want["first"]
    chat = {"messages": [{"role": "user", "content": "Lily"}], "max_tokens": 8, "seed": 3}
    texts = [
        client.post("/v1/chat/completions", {**chat, **more}).json["choices"][0]["message"]["content"]
        for more in ({"model": "second"}, {"lora": [{"id": 1, "scale": 1}]}, {})
    ]
    assert texts[0] == texts[1] != texts[2]
    claude = {**chat, "model": "second", "temperature": 0}
    answers = [
        client.post("/v1/messages", {**claude, **more}).json["content"][0]["text"]
        for more in ({}, {"model": "stories"})
    ]
    assert answers[0] != answers[1]
    vectors = [
        client.post("/v1/embeddings", {"input": PROMPT, "model": name}).json["data"][0]["embedding"]
        for name in ("second", "stories", "stories:first")
    ]
    assert vectors[1] == vectors[2] != vectors[0]


def test_they_are_listed_as_models(client: Client) -> None:
    listed = {each["id"]: each.get("parent") for each in client.get("/v1/models").json["data"]}
    assert listed == {"stories": None, "first": "stories", "second": "stories"}
    assert client.get("/v1/models/stories:second").json["root"] == "second"


def test_a_model_that_was_unloaded_still_has_their_names(model: LLM) -> None:
    """Who asks for one loads it again, and is not answered by the model as it is."""
    sampling = SamplingParams(seed=3, temperature=0.8)
    want = model.generate(PROMPT, max_tokens=12, sampling=sampling, adapter={"second": 1.0}).text
    files = {adapter.path: model.adapter.get(adapter.name, 0.0) for adapter in model.adapters}
    load: dict[str, Any] = {"threads": 1, "n_ctx": 256, "adapters": files}
    application = app(model.model.parts.file.path, Settings(names=("stories",), template=TEMPLATE, load=load))
    client, service = Client(application), application.state.service

    async def scenario() -> None:
        await service.models.load("stories")
        (entry,) = service.models.listed()
        for name in ("second", "stories:second"):
            await service.models.unload("stories")
            assert entry.state == "on disk"
            found = (await client.apost("/v1/completions", {**BODY, "max_tokens": 12, "model": name})).json
            assert (found["model"], found["choices"][0]["text"]) == (name, want)
        await service.models.close()

    asyncio.run(scenario())


def test_the_list_of_them(client: Client) -> None:
    assert client.get("/lora-adapters").json == [
        {"id": 0, "path": "first.gguf", "scale": 1.0},
        {"id": 1, "path": "second.gguf", "scale": 0.0},
    ]
    assert client.post("/lora-adapters", {}).status == 501


WRONG: list[Any] = [
    "x", {}, [1], [{"scale": 1}], [{"id": 2, "scale": 1}], [{"id": -1, "scale": 1}], [{"id": 0}],
    [{"id": 0, "scale": 1e9}], [{"id": 0, "scale": "1"}], [{"id": 0, "scale": 1}] * 2,
    [{"id": i, "scale": 1} for i in range(65)],
]  # fmt: skip


@pytest.mark.parametrize("lora", WRONG)
def test_what_names_none_is_refused(client: Client, lora: Any) -> None:
    for path in ("/completion", "/v1/completions"):
        reply = client.post(path, {**BODY, "lora": lora})
        assert (reply.status, reply.error.get("param", "lora")) == (400, "lora")
        assert "lora" in reply.error["message"]
