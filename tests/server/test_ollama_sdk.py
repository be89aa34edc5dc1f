"""Ollama's own client, through a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from asgi import TEMPLATE
from llamaq import LLM, SamplingParams
from served import Served, served

pytestmark = pytest.mark.subprocess

HELLO = [{"role": "user", "content": "Tell me of Tom"}]
OPTIONS = {"num_predict": 12, "seed": 1}
SAMPLING = SamplingParams(seed=1, top_p=0.9, min_p=0.0)


@pytest.fixture(scope="module")
def server(stories: Path) -> Iterator[Served]:
    with served(stories, "-t", 1, "--alias", "stories", "--chat-template", TEMPLATE) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as found:
        yield found


@pytest.fixture(scope="module")
def expected(stories: Path) -> str:
    with LLM.load(stories, threads=1) as llm:
        return llm.chat(HELLO, template=TEMPLATE, max_tokens=12, sampling=SAMPLING).text


def test_it_chats(client: ollama.Client, expected: str) -> None:
    done = client.chat("stories", HELLO, options=OPTIONS)
    assert (done.message.content, done.done, done.done_reason, done.eval_count) == (expected, True, "length", 12)
    parts = list(client.chat("stories", HELLO, options=OPTIONS, stream=True))
    assert "".join(part.message.content or "" for part in parts) == expected
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 12


def test_it_goes_on_with_texts(client: ollama.Client, expected: str) -> None:
    done = client.generate("stories", "Tell me of Tom", options=OPTIONS)
    assert (done.response, bool(done.context)) == (expected, True)
    parts = list(client.generate("stories", "Tell me of Tom", options=OPTIONS, stream=True, logprobs=True))
    assert "".join(part.response or "" for part in parts) == expected
    assert sum(len(part.logprobs or ()) for part in parts) == 12
    assert client.generate("stories").done_reason == "load"


def test_coroutines(server: Served, expected: str) -> None:
    async def scenario() -> list[Any]:
        async with ollama.AsyncClient(host=server.url) as client:

            async def streamed() -> str:
                parts = await client.chat("stories", HELLO, options=OPTIONS, stream=True)
                return "".join([part.message.content or "" async for part in parts])

            async def plain() -> str:
                return (await client.chat("stories", HELLO, options=OPTIONS)).message.content or ""

            return await asyncio.gather(*(make() for make in (streamed, plain) * 4))

    assert asyncio.run(scenario()) == [expected] * 8


def test_structures(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    done = client.chat("stories", HELLO, format=schema, options={"num_predict": 60, "seed": 1})
    assert set(json.loads(done.message.content or "")) == {"yes"}


def add(a: int, b: int) -> int:
    """Adds.

    Args:
      a: one number
      b: another
    """
    return a + b


def test_tools(client: ollama.Client) -> None:
    """The model is shown them, and a conversation with calls is taken."""
    with_tools = client.chat("stories", HELLO, tools=[add], options=OPTIONS)
    assert (with_tools.prompt_eval_count or 0) > 2 * (client.chat("stories", HELLO, options=OPTIONS).eval_count or 0)
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    messages: list[Any] = [*HELLO, {"role": "assistant", "tool_calls": [call]},
                           {"role": "tool", "content": "3", "tool_name": "add"}]  # fmt: skip
    assert client.chat("stories", messages, tools=[add], options=OPTIONS).done


def test_vectors(client: ollama.Client, stories: Path) -> None:
    with LLM.load(stories, threads=1) as llm:
        expected = llm.embed(["Tom saw a dog"]).tolist()
    assert client.embed("stories", "Tom saw a dog").embeddings == expected
    assert client.embeddings("stories", "Tom saw a dog").embedding == expected[0]


def test_what_it_is_told_of_models(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert (listed.model, listed.details and listed.details.format) == ("stories", "gguf")
    assert listed.modified_at is not None
    shown = client.show("stories")
    assert shown.modelinfo is not None
    assert (shown.modelinfo["general.architecture"], shown.modelinfo["llama.context_length"]) == ("llama", 512)
    assert shown.capabilities == ["completion", "tools"]
    (running,) = client.ps().models
    assert (running.name, running.digest, running.context_length) == ("stories", listed.digest, 512)


def test_it_knows_the_errors(client: ollama.Client) -> None:
    for status, ask in (
        (404, lambda: client.chat("llama3.2", HELLO)),
        (400, lambda: client.chat("stories", HELLO, think=True)),
        (400, lambda: client.chat("stories", HELLO, options={"num_ctx": 100_000})),
        (400, lambda: list(client.generate("stories", "word " * 2000, stream=True))),
        (403, lambda: client.pull("llama3.2")),
        (501, lambda: client.create("x", from_="stories")),
        (501, lambda: client.delete("stories")),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            ask()
        assert (caught.value.status_code, bool(caught.value.error)) == (status, True)


def test_a_model_comes_and_goes(client: ollama.Client) -> None:
    assert client.generate("stories", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate("stories", keep_alive="10m").done_reason == "load"
    (running,) = client.ps().models
    assert running.expires_at is not None
