"""Models that clients fetch from the hub: a hub on this machine, and Ollama's own client."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from asgi import TEMPLATE, Client, Reply
from hub_server import Hub, hub_server
from llamaq.hub.address import Address
from llamaq.server import Settings, app, downloads
from model_places import Places
from served import served
from waiting import wait_until

PULL = "/api/pull"
CHAT = {"messages": [{"role": "user", "content": "Tell me of Tom"}], "options": {"num_predict": 4, "seed": 1}}
SETTINGS = Settings(names=("stories",), allow_pull=True, load={"threads": 1, "n_ctx": 64}, template=TEMPLATE)


@pytest.fixture
def hub(stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Places(tmp_path, monkeypatch)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {"s-Q8_0.gguf": stories.read_bytes(), "s-Q2_K.gguf": stories.read_bytes(), "p-Q3_K.gguf": b"<html>"}
        yield hub


@pytest.fixture
def client(hub: Hub, stories: Path) -> Client:
    return Client(app(stories, SETTINGS))


def lines(reply: Reply) -> list[dict[str, Any]]:
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in reply.body.decode().splitlines()]


def listed(client: Client) -> list[str]:
    return [entry["name"] for entry in client.get("/api/tags").json["models"]]


def test_a_model_is_fetched_and_asked_for(client: Client, hub: Hub) -> None:
    assert listed(client) == ["stories"]
    told = lines(client.post(PULL, {"model": "hf.co/u/r:Q8_0"}))
    assert told[0] == {"status": "pulling manifest"}
    assert [line["status"] for line in told[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    (digest,) = {line["digest"] for line in told[1:-3]}
    assert {line["status"] for line in told[1:-3]} == {f"pulling {digest[7:19]}"}
    size = len(hub.files["s-Q8_0.gguf"])
    assert {line["total"] for line in told[1:-3]} == {size}
    done = [line["completed"] for line in told[1:-3]]
    assert (done, done[-1]) == (sorted(done), size)
    assert listed(client) == ["stories", "u/r:Q8_0"]
    assert client.post(PULL, {"name": "u/r", "stream": False}).json == {"status": "success"}
    assert hub.downloads() == ["s-Q8_0.gguf"]

    async def scenario() -> None:
        for name in ("hf.co/u/r:Q8_0", "hf:u/r", "u/r:q8_0", "U/R:Q8_0:latest", "hf.co/u/r:latest"):
            reply = await client.apost("/api/chat", {**CHAT, "model": name, "stream": False})
            assert (reply.status, reply.json.get("model")) == (200, "u/r:Q8_0"), reply.body
        assert (await client.apost("/v1/messages", {"model": "u/r", "max_tokens": 2, **CHAT})).status == 200
        for name in ("hf.co/u/r:Q2_K", "hf:u", "hf:../..", "x"):
            assert (await client.apost("/api/chat", {**CHAT, "model": name})).status == 404
        assert (await client.apost("/v1/completions", {"prompt": "Tom", "max_tokens": 1})).json["model"] == "stories"
        await client.app.state.service.models.close()

    asyncio.run(scenario())


def test_a_name_without_a_quantization_is_chosen_as_the_hub_does(client: Client, hub: Hub) -> None:
    for name in ("hf:u/r:Q2_K", "u/r"):
        assert lines(client.post(PULL, {"model": name}))[-1] == {"status": "success"}
    assert listed(client) == ["stories", "u/r:Q2_K", "u/r:Q8_0"]
    find = client.app.state.service.models.find
    assert (find("hf.co/u/r").name, find("hf.co/u/r:q2_k").name) == ("u/r:Q8_0", "u/r:Q2_K")
    again = Client(app(client.app.state.service.models.find("stories").path, SETTINGS))  # a new start is like this
    assert listed(again) == listed(client)


@pytest.mark.parametrize(
    "name",
    ["", "llama3.2", "http://127.0.0.1:1/u/r/x.gguf", "https://huggingface.co/u/r", "hf://u/r", "hf:../..", "hf:u",
     "hf:https://evil.com", "evil.com/u/r", "registry.ollama.ai/library/llama3.2", "../u/r", "/etc/passwd",
     "u/r:", "u/r:\n"],
)  # fmt: skip
def test_only_names_on_the_hub_are_fetched(client: Client, hub: Hub, name: str) -> None:
    reply = client.post(PULL, {"model": name})
    assert (reply.status, set(reply.json)) == (400, {"error"})
    assert hub.asked == []


def test_without_the_option_nothing_is_fetched_or_found(hub: Hub, stories: Path) -> None:
    client = Client(app(stories, Settings(names=("stories",))))
    reply = client.post(PULL, {"model": "u/r"})
    assert (reply.status, "--allow-pull" in reply.json["error"]) == (403, True)
    assert hub.asked == []


def test_errors_are_lines(client: Client, hub: Hub, tmp_path: Path) -> None:
    for name, said in (("u/none", "no repository u/none"), ("u/r:Q6_K", "Q6_K"), ("u/r:Q3_K", "is no model")):
        told = lines(client.post(PULL, {"model": name}))
        assert (told[0], set(told[-1]), said in told[-1]["error"]) == ({"status": "pulling manifest"}, {"error"}, True)
        reply = client.post(PULL, {"model": name, "stream": False})
        assert (reply.status, said in reply.json["error"]) == (502, True)
        assert str(tmp_path) not in told[-1]["error"]


class Slow:
    """Downloads that go on until they are ended; ``finish`` lets them come to an end."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun, self.ended, self.finish = path, 0, 0, threading.Event()

    def __call__(self, address: Address, progress: Callable[[int, int], None]) -> Any:
        self.begun += 1
        try:
            for done in range(10**9):
                progress(done % 100, 100)
                if self.finish.is_set():
                    break
                time.sleep(0.001)
        finally:
            self.ended += 1

        class Found:
            path = self.path

        return Found


@pytest.fixture
def slow(stories: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    found = Slow(stories)
    monkeypatch.setattr(downloads, "fetch", found)
    yield found
    found.finish.set()
    wait_until(lambda: found.ended == found.begun)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_who_asks_for_the_same_shares_one_download(client: Client, slow: Slow) -> None:
    async def scenario() -> None:
        replies, gone = [Reply() for _ in range(3)], [asyncio.Event() for _ in range(3)]
        tasks = [
            asyncio.ensure_future(
                client.asend(
                    "POST", PULL, json.dumps({"model": name}).encode(), {"content_type": "application/json"},
                    reply=reply, hang_up=hang_up,
                )
            )
            for name, reply, hang_up in zip(("u/r", "hf:u/r", "u/other"), replies, gone, strict=True)
        ]  # fmt: skip
        await until(lambda: all(b"completed" in reply.body for reply in replies))
        assert slow.begun == 2
        gone[0].set()
        gone[2].set()
        await until(lambda: slow.ended == 1)  # the other has a client left
        await asyncio.gather(tasks[0], tasks[2])
        assert not tasks[1].done()
        gone[1].set()
        await until(lambda: slow.ended == 2)
        await tasks[1]
        assert not any(reply.ended for reply in replies)
        more = [asyncio.ensure_future(client.apost(PULL, {"model": f"u/r{i}", "stream": False})) for i in range(4)]
        await until(lambda: slow.begun == 6)
        refused = await client.apost(PULL, {"model": "u/r5", "stream": False})
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        slow.finish.set()
        assert [reply.json for reply in await asyncio.gather(*more)] == [{"status": "success"}] * 4

    asyncio.run(asyncio.wait_for(scenario(), 300))


def test_a_server_that_shuts_down_ends_them(client: Client, slow: Slow) -> None:
    async def scenario() -> None:
        reply = Reply()
        head = {"content_type": "application/json"}
        task = asyncio.ensure_future(client.asend("POST", PULL, b'{"model":"u/r"}', head, reply=reply))
        await until(lambda: b"completed" in reply.body)
        client.app.state.service.cancel()
        await task
        assert "shutting down" in lines(reply)[-1]["error"]
        await until(lambda: slow.ended == 1)

    asyncio.run(asyncio.wait_for(scenario(), 300))


@pytest.mark.subprocess
def test_ollamas_client_pulls(hub: Hub, stories: Path) -> None:
    options = ("-t", 1, "-c", 128, "--alias", "stories", "--chat-template", TEMPLATE, "--allow-pull")
    with served(stories, *options) as server, ollama.Client(host=server.url) as client:
        parts = list(client.pull("hf.co/u/r:Q8_0", stream=True))
        assert (parts[0].status, parts[-1].status) == ("pulling manifest", "success")
        assert client.pull("hf.co/u/r:Q8_0").status == "success"
        assert [model.model for model in client.list().models] == ["stories", "u/r:Q8_0"]
        for name in ("stories", "hf.co/u/r:Q8_0"):
            assert client.chat(name, CHAT["messages"], options=CHAT["options"]).eval_count == 4
        with pytest.raises(ollama.ResponseError, match="no repository"):
            list(client.pull("u/none", stream=True))
        assert server.end()[0] == 0
