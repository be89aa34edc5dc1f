"""Pictures in the three protocols, beside what the library makes of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asgi import Client
from llamaq import LLM
from llamaq.server import Settings, app
from vision_cases import picture

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}b{% endfor %}"
OPENAI, OLLAMA, ANTHROPIC = "/v1/chat/completions", "/api/chat", "/v1/messages"


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    model, mmproj = shared("tiny-models/gemma3v.gguf"), shared("tiny-models/gemma3v-mmproj.gguf")
    with LLM.load(model, mmproj=mmproj, threads=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def client(llm: LLM) -> Client:
    return Client(app(llm, Settings(names=("tiny",), template=TEMPLATE)))


@pytest.fixture(scope="module")
def png() -> str:
    out = BytesIO()
    Image.fromarray(picture(30, 20)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def bodies(data: str, url: str) -> dict[str, tuple[dict[str, Any], Callable[[Any], int]]]:
    """A request of each protocol with the same picture, and the prompt's tokens in the answer."""
    text = {"type": "text", "text": "ab"}
    limits: dict[str, Any] = {"model": "tiny", "max_tokens": 3, "stream": False}
    part = {"type": "image_url", "image_url": {"url": url}}
    block = {"type": "image", "source": {"type": "base64", "data": data, "media_type": "image/png"}}
    shown = {"role": "user", "content": "ab", "images": [data]}
    return {
        OPENAI: ({**limits, "messages": [{"role": "user", "content": [part, text]}]}, _openai),
        OLLAMA: ({"model": "tiny", "stream": False, "options": {"num_predict": 3}, "messages": [shown]}, _ollama),
        ANTHROPIC: ({**limits, "messages": [{"role": "user", "content": [block, text]}]}, _anthropic),
    }


def _openai(body: Any) -> int:
    return int(body["usage"]["prompt_tokens"])


def _ollama(body: Any) -> int:
    return int(body["prompt_eval_count"])


def _anthropic(body: Any) -> int:
    usage = body["usage"]
    return int(usage["input_tokens"]) + int(usage.get("cache_read_input_tokens") or 0)


@pytest.mark.parametrize("path", [OPENAI, OLLAMA, ANTHROPIC])
def test_a_picture_is_read(client: Client, llm: LLM, png: str, path: str) -> None:
    body, tokens = bodies(png, f"data:image/png;base64,{png}")[path]
    parts = [{"type": "image", "image": base64.b64decode(png)}, {"type": "text", "text": "ab"}]
    want = llm.render_chat([{"role": "user", "content": parts}], template=TEMPLATE)
    assert want.inserted
    reply = client.post(path, body)
    assert reply.status == 200, reply.body
    assert tokens(reply.json) == len(want.ids)


@pytest.mark.parametrize("path", [OPENAI, OLLAMA, ANTHROPIC])
@pytest.mark.parametrize("data", ["x%y", "aGk="])
def test_what_is_no_picture_is_told_to_the_client(client: Client, path: str, data: str) -> None:
    body, _ = bodies(data, f"data:image/png;base64,{data}")[path]
    reply = client.post(path, body)
    assert reply.status == 400, reply.body
    assert b"picture" in reply.body


@pytest.mark.parametrize("url", ["http://example.org/cat.png", "/etc/passwd", "file:///etc/passwd", 5, ["x"]])
def test_nothing_is_fetched_and_no_file_is_read(client: Client, png: str, url: Any) -> None:
    body, _ = bodies(png, url)[OPENAI]
    reply = client.post(OPENAI, body)
    assert reply.status == 400, reply.body
    assert b"data URL" in reply.body
    block = {"type": "image", "source": {"type": "url", "url": url}}
    refused = client.post(
        ANTHROPIC, {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": [block]}]}
    )
    assert refused.status == 400
    assert b"fetches nothing" in refused.body


def test_a_picture_that_comes_again_is_in_the_cache(client: Client, png: str) -> None:
    body, _ = bodies(png, f"data:image/png;base64,{png}")[OPENAI]
    client.post(OPENAI, body)
    usage = client.post(OPENAI, body).json["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
