"""The door before several applications: answers are theirs, and what begins alike has one affinity."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.distributed.relay import Door, Gone, affinity, relayed
from llamaq.server import Settings, app

USER = {"role": "user", "content": "Tell of a cat"}
ASKED = {"messages": [USER], "max_tokens": 6, "seed": 1}


@pytest.fixture
def asked() -> list[tuple[str, str]]:
    """Models and affinities of the requests that came through the door."""
    return []


@pytest.fixture
def door(llm: LLM, asked: list[tuple[str, str]]) -> Client:
    apps = {name: app(llm, Settings(names=(name,), template=TEMPLATE)) for name in ("one", "two")}

    def ask(name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        asked.append((name, key))
        return relayed(apps[name], scope, body)

    return Client(Door(list(apps), ask))


def test_answers_are_those_of_the_application(door: Client, llm: LLM) -> None:
    alone = Client(app(llm, Settings(names=("two",), template=TEMPLATE)))
    for path, body in (("chat/completions", ASKED), ("embeddings", {"input": "x"}), ("completions", {"prompt": 5.5})):
        through, straight = (each.post(f"/v1/{path}", {**body, "model": "two"}) for each in (door, alone))
        assert through.status == straight.status
        assert through.json.get("choices") == straight.json.get("choices")
        assert through.json.get("data") == straight.json.get("data")
        assert through.headers.get("x-llamaq-seed") == straight.headers.get("x-llamaq-seed")
    frames = [door.post("/v1/chat/completions", {**ASKED, "stream": True}).frames for _ in range(2)]
    texts = ["".join(f["choices"][0]["delta"].get("content", "") for f in each) for each in frames]
    assert texts == [alone.post("/v1/chat/completions", ASKED).json["choices"][0]["message"]["content"]] * 2
    assert [model["id"] for model in door.get("/v1/models").json["data"]] == ["one", "two"]
    assert door.post("/v1/completions", b"no JSON").status == 400


def test_the_model_that_is_asked_for_answers(door: Client, asked: list[tuple[str, str]]) -> None:
    for model in ("two", "one", "three", None):
        door.post("/v1/completions", {"prompt": "x", "max_tokens": 1, "model": model})
    assert [name for name, _ in asked] == ["two", "one", "one", "one"]


def test_a_client_that_hangs_up_ends_its_answer(llm: LLM) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def endless(name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        try:
            yield {"type": "http.response.start", "status": 200, "headers": []}
            entered.set()
            await asyncio.Event().wait()
        finally:
            left.set()

    async def run() -> None:
        gone = asyncio.Event()
        client = Client(Door(["one"], endless))
        task = asyncio.ensure_future(client.asend("POST", "/v1/completions", b"{}", {}, hang_up=gone))
        await entered.wait()
        gone.set()
        await task
        assert left.is_set()

    asyncio.run(run())


@pytest.mark.parametrize(("dies_after", "asked"), [([0, 0, 9], 3), ([1], 1), ([0] * 8, 8)])
def test_another_answers_for_who_is_gone(monkeypatch: pytest.MonkeyPatch, dies_after: list[int], asked: int) -> None:
    """Unless the answer has begun, or everybody goes."""
    monkeypatch.setattr("llamaq.distributed.relay._PAUSE", 0.0)
    parts = [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b"yes", "more_body": False},
    ]
    lives = iter(dies_after)
    count = 0

    async def ask(name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        nonlocal count
        count += 1
        life = next(lives)
        for part in parts[:life]:
            yield part
        if life < len(parts):
            raise Gone

    client = Client(Door(["one"], ask))
    if dies_after[-1] < len(parts):
        with pytest.raises(Gone):
            client.post("/v1/completions", {})
    else:
        assert client.post("/v1/completions", {}).body == b"yes"
    assert count == asked


def test_what_begins_alike_has_one_affinity() -> None:
    def key(**body: Any) -> str:
        return affinity(json.dumps(body).encode(), ["m"])[1]

    system = {"role": "system", "content": "Be kind"}
    answer = {"role": "assistant", "content": "There was a cat"}
    talk = key(messages=[system, USER])
    assert talk == key(messages=[system, USER, answer, {"role": "user", "content": "And then?"}], temperature=0)
    assert len({talk, key(messages=[USER]), key(messages=[system, answer]), key(messages=[USER], tools=[1])}) == 4
    long = "Once upon a time " * 100
    assert key(prompt=long) == key(prompt=long + "more") != key(prompt="x" + long)
    assert affinity(b"[" * 9999, ["m"]) == affinity(b"7", ["m"]) == ("m", "")
    assert len({key(input="a"), key(input=["b"]), key()}) == 3


def test_a_body_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch, door: Client) -> None:
    monkeypatch.setattr("llamaq.distributed.relay._MOST_BODY", 10)
    assert door.post("/v1/completions", {"prompt": "x" * 10}).status == 413


def test_the_door_lives_as_long_as_its_server() -> None:
    told: list[str] = []
    messages = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        told.append(message["type"])

    async def ask(name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("nobody asks")
        yield {}

    asyncio.run(Door(["one"], ask)({"type": "lifespan"}, receive, send))
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
