"""One request is one answer: over any protocol, alone or among others, streamed or not, read anew or from the cache."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.chat import chat_request
from llamaq.server import Settings, app

COUNT = 12
SETTINGS = {"temperature": 0.9, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "repeat_penalty": 1.1}


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Tell me of number {number}"}]


def sampling(number: int) -> SamplingParams:
    return SamplingParams(seed=number, **SETTINGS)


def openai_chat(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    body = {"messages": messages(number), "max_tokens": COUNT, "seed": number, "stream": stream}
    return "/v1/chat/completions", {**body, **SETTINGS}


def ollama_chat(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    options = {**SETTINGS, "num_predict": COUNT, "seed": number}
    return "/api/chat", {"messages": messages(number), "options": options, "stream": stream}


def ollama_generate(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    _, body = ollama_chat(model, number, stream)
    system, user = body.pop("messages")
    return "/api/generate", {**body, "system": system["content"], "prompt": user["content"]}


def native(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    ids = chat_request(model.metadata, model.tokenizer, messages(number), template=TEMPLATE).ids
    return "/completion", {"prompt": ids, "n_predict": COUNT, "seed": number, "stream": stream, **SETTINGS}


def openai_completion(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    _, body = native(model, number, stream)
    count = body.pop("n_predict")
    return "/v1/completions", {**body, "max_tokens": count}


def openai_response(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    _, body = openai_chat(model, number, stream)
    changed = {"input": body.pop("messages"), "max_output_tokens": body.pop("max_tokens")}
    return "/v1/responses", {**body, **changed}


def anthropic(model: LLM, number: int, stream: bool) -> tuple[str, dict[str, Any]]:
    _, body = openai_chat(model, number, stream)
    system, user = body.pop("messages")
    return "/v1/messages", {**body, "system": system["content"], "messages": [user]}


ROUTES = (openai_chat, openai_completion, openai_response, anthropic, ollama_chat, ollama_generate, native)


def text_of(reply: Reply) -> str:
    """What was written, in whichever protocol."""
    assert reply.status == 200
    kind = reply.headers["content-type"]
    if kind == "application/x-ndjson":
        parts = [json.loads(line) for line in reply.body.decode().splitlines()]
    elif kind == "text/event-stream":
        data = [line.removeprefix("data: ") for line in reply.body.decode().splitlines() if line.startswith("data: ")]
        parts = [json.loads(line) for line in data if line != "[DONE]"]
    else:
        parts = [reply.json]
    return "".join(map(_text, parts))


def _text(part: dict[str, Any]) -> str:
    kind = part.get("type", part.get("object"))
    if kind == "content_block_delta":
        return part["delta"]["text"]
    if kind == "response.output_text.delta":
        return part["delta"]
    if kind in ("message", "response"):
        return "".join(item["text"] for item in part.get("content") or part["output"][0]["content"])
    if kind is not None and "choices" not in part:
        return ""
    for choice in part.get("choices", ()):
        message = choice.get("delta") or choice.get("message") or choice
        return message.get("content") or message.get("text") or ""
    return part.get("response") or part.get("content") or part.get("message", {}).get("content") or ""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)
def test_alone(model: LLM, route: Callable[..., tuple[str, dict[str, Any]]]) -> None:
    client = Client(app(model, Settings(template=TEMPLATE)))
    done = model.chat(messages(1), template=TEMPLATE, max_tokens=COUNT, sampling=sampling(1))
    for stream in (False, True):
        assert text_of(client.post(*route(model, 1, stream))) == done.text


def test_all_of_them_at_once(model: LLM) -> None:
    client = Client(app(model, Settings(template=TEMPLATE, parallel=8)))
    cases = [(route, number, stream) for number in range(4) for route in ROUTES for stream in (False, True)]
    expected = [
        model.chat(messages(number), template=TEMPLATE, max_tokens=COUNT, sampling=sampling(number)).text
        for _, number, _ in cases
    ]
    assert len(set(expected)) == 4

    async def ask() -> list[Reply]:
        return await asyncio.gather(*(client.apost(*route(model, number, stream)) for route, number, stream in cases))

    for _ in range(2):  # the second time from the cache
        assert [text_of(reply) for reply in asyncio.run(ask())] == expected
