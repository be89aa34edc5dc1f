"""Pictures in the three protocols, beside what the library makes of them."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import anthropic
import ollama
import openai
import pytest
from PIL import Image

from asgi import Client, Reply
from listening import listening
from llamaq import LLM, SamplingParams
from llamaq.boundary.progress import Progress
from llamaq.server import Settings, app
from llamaq.vision.encoder import Encoder
from vision_cases import picture

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}b{% endfor %}"
OPENAI, OLLAMA, ANTHROPIC = "/v1/chat/completions", "/api/chat", "/v1/messages"
RESPONSES, GENERATE = "/v1/responses", "/api/generate"
ROUTES = [OPENAI, RESPONSES, OLLAMA, GENERATE, ANTHROPIC]


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    model, mmproj = shared("tiny-models/gemma3v.gguf"), shared("tiny-models/gemma3v-mmproj.gguf")
    with LLM.load(model, mmproj=mmproj, threads=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def client(llm: LLM) -> Client:
    return Client(app(llm, Settings(names=("tiny",), template=TEMPLATE)))


@pytest.fixture(scope="module")
def url(client: Client) -> Iterator[str]:
    with listening(client.app) as found:
        yield found


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
    item = {
        "role": "user",
        "content": [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "ab"}],
    }
    few: dict[str, Any] = {"model": "tiny", "stream": False, "options": {"num_predict": 3}}
    return {
        RESPONSES: ({"model": "tiny", "max_output_tokens": 3, "input": [item]}, _responses),
        GENERATE: ({**few, "prompt": "ab", "images": [data]}, _ollama),
        OPENAI: ({**limits, "messages": [{"role": "user", "content": [part, text]}]}, _openai),
        OLLAMA: ({**few, "messages": [shown]}, _ollama),
        ANTHROPIC: ({**limits, "messages": [{"role": "user", "content": [block, text]}]}, _anthropic),
    }


def _openai(body: Any) -> int:
    return int(body["usage"]["prompt_tokens"])


def _responses(body: Any) -> int:
    return int(body["usage"]["input_tokens"])


def _ollama(body: Any) -> int:
    return int(body["prompt_eval_count"])


def _anthropic(body: Any) -> int:
    usage = body["usage"]
    return int(usage["input_tokens"]) + int(usage.get("cache_read_input_tokens") or 0)


@pytest.mark.parametrize("path", ROUTES)
def test_a_picture_is_read(client: Client, llm: LLM, png: str, path: str) -> None:
    body, tokens = bodies(png, f"data:image/png;base64,{png}")[path]
    parts = [{"type": "image", "image": base64.b64decode(png)}, {"type": "text", "text": "ab"}]
    want = llm.render_chat([{"role": "user", "content": parts}], template=TEMPLATE)
    assert want.inserted
    reply = client.post(path, body)
    assert reply.status == 200, reply.body
    assert tokens(reply.json) == len(want.ids)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("data", ["x%y", "aGk="])
def test_what_is_no_picture_is_told_to_the_client(client: Client, path: str, data: str) -> None:
    body, _ = bodies(data, f"data:image/png;base64,{data}")[path]
    reply = client.post(path, body)
    assert reply.status == 400, reply.body
    assert b"picture" in reply.body


@pytest.mark.parametrize("url", ["http://example.org/cat.png", "/etc/passwd", "file:///etc/passwd", 5, ["x"]])
def test_nothing_is_fetched_and_no_file_is_read(client: Client, png: str, url: Any) -> None:
    for path in (OPENAI, RESPONSES):
        reply = client.post(path, bodies(png, url)[path][0])
        assert reply.status == 400, reply.body
        assert b"data URL" in reply.body
    block = {"type": "image", "source": {"type": "url", "url": url}}
    refused = client.post(
        ANTHROPIC, {"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": [block]}]}
    )
    assert refused.status == 400
    assert b"fetches nothing" in refused.body


@pytest.mark.parametrize("path", [*ROUTES, "/v1/messages/count_tokens"])
def test_pictures_of_who_hangs_up_are_read_no_further(client: Client, png: str, path: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(_: Encoder, sources: Any, progress: Progress) -> Any:
        begun.set()
        try:
            while True:
                progress(0, 1)
        finally:
            ended.set()

    async def scenario() -> Reply:
        gone = asyncio.Event()
        body = json.dumps(bodies(png, f"data:image/png;base64,{png}")[path.removesuffix("/count_tokens")][0]).encode()
        call = asyncio.ensure_future(
            client.asend("POST", path, body, {"content-type": "application/json"}, hang_up=gone)
        )
        await asyncio.to_thread(begun.wait)
        gone.set()
        return await call

    with mock.patch.object(Encoder, "pieces_of", endless):
        assert asyncio.run(scenario()).status == 0
        ended.wait()


def test_a_picture_that_comes_again_is_in_the_cache(client: Client, png: str) -> None:
    body, _ = bodies(png, f"data:image/png;base64,{png}")[OPENAI]
    client.post(OPENAI, body)
    usage = client.post(OPENAI, body).json["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


def test_clients_of_the_protocols_send_them(llm: LLM, url: str, png: str) -> None:
    """Greedy answers, which are the library's."""
    address, few = f"data:image/png;base64,{png}", 6
    shown = [{"type": "image", "image": base64.b64decode(png)}, {"type": "text", "text": "ab"}]
    message = [{"role": "user", "content": shown}]
    want = llm.chat(message, template=TEMPLATE, max_tokens=few, sampling=SamplingParams(temperature=0)).text
    theirs = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, _strict_response_validation=True)
    with theirs as client:
        part: Any = [{"type": "image_url", "image_url": {"url": address, "detail": "low"}}, shown[1]]
        chat = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": part}], temperature=0, max_completion_tokens=few
        )
        assert chat.choices[0].message.content == want
        item: Any = {"role": "user", "content": [{"type": "input_text", "text": "ab"}]}
        item["content"].insert(0, {"type": "input_image", "image_url": address, "detail": "auto"})
        asked: Any = {"model": "tiny", "input": [item], "temperature": 0, "max_output_tokens": few}
        assert client.responses.create(**asked).output_text == want
        deltas = [each.delta for each in client.responses.create(**asked, stream=True) if "text.delta" in each.type]
        assert "".join(deltas) == want
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, _strict_response_validation=True) as other:
        source = {"type": "base64", "media_type": "image/png", "data": png}
        block: Any = [{"type": "image", "source": source}, shown[1]]
        said = other.messages.create(
            model="tiny", messages=[{"role": "user", "content": block}], max_tokens=few, extra_body={"temperature": 0}
        )
        assert "".join(each.text for each in said.content if each.type == "text") == want
    with ollama.Client(host=url) as third:
        options = {"num_predict": few, "temperature": 0}
        talk = third.chat(
            "tiny", [{"role": "user", "content": "ab", "images": [base64.b64decode(png)]}], options=options
        )
        assert talk.message.content == want
        made = third.generate("tiny", "ab", images=[png], options=options)
        assert (made.response, made.context) == (want, None)
        assert "vision" in (third.show("tiny").capabilities or [])


def test_whether_a_model_sees_is_told(client: Client, llm: LLM, stories: Path) -> None:
    with LLM.load(stories, threads=1) as blind:
        other = Client(app(blind, Settings(names=("blind",), template=TEMPLATE)))
        for each, sees in ((client, True), (other, False)):
            modalities = each.get("/v1/models").json["data"][0]["architecture"]["input_modalities"]
            assert ("image" in modalities) == sees
            assert each.get("/props").json["modalities"]["vision"] == sees
            assert ("vision" in each.get("/api/tags").json["models"][0]["capabilities"]) == sees
        reply = other.post(RESPONSES, bodies("aGk=", "data:;base64,aGk=")[RESPONSES][0])
    assert (reply.status, reply.error["param"]) == (400, "input")
    assert "reads text only" in reply.error["message"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}),
        (RESPONSES, {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "data:,"}]}]}),
        (GENERATE, {"raw": True}),
        (GENERATE, {"suffix": "c"}),
        (GENERATE, {"images": "aGk="}),
        (GENERATE, {"images": [5]}),
    ],
)
def test_what_cannot_be_shown_is_refused(client: Client, png: str, path: str, change: dict[str, Any]) -> None:
    body, _ = bodies(png, f"data:image/png;base64,{png}")[path]
    assert client.post(path, {**body, **change}).status == 400
