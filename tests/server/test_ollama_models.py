"""What Ollama's clients are told of models, vectors of texts, and how models come and go."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.gguf import GGUFArray
from llamaq.gguf.types import ValueType
from llamaq.server import Settings, app
from llamaq.server.native import state
from llamaq.server.ollama import shown
from tiny_encoders import tiny_encoder

CHAT = {"messages": [{"role": "user", "content": "Tell me of Tom"}], "options": {"num_predict": 8, "seed": 1}}


def test_vectors(client: Client, model: LLM) -> None:
    texts = ["Tom saw a dog", "One day"]
    body = client.post("/api/embed", {"model": "stories", "input": texts}).json
    assert np.array_equal(np.array(body["embeddings"], np.float32), model.embed(texts))
    assert body["prompt_eval_count"] == sum(len(model.prompt_ids(text)) for text in texts)
    assert set(body) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
    one = client.post("/api/embed", {"model": "stories", "input": texts[0], "dimensions": 8}).json["embeddings"]
    cut = model.embed(texts)[0, :8]
    np.testing.assert_allclose(one[0], cut / np.linalg.norm(cut), rtol=1e-6)
    assert client.post("/api/embed", {"model": "stories", "input": []}).json["embeddings"] == []
    assert client.post("/api/embed", {"model": "stories"}).json["embeddings"] == []
    old = client.post("/api/embeddings", {"model": "stories", "prompt": texts[0]}).json
    assert old == {"embedding": body["embeddings"][0]}


def test_a_text_that_is_too_long_for_a_vector() -> None:
    """Its end is left out, but for the token that ends it; or it is refused."""
    path, _, _ = tiny_encoder("bert")
    with LLM.load(path, threads=1) as encoder:
        client = Client(app(encoder, Settings(names=("bert",))))
        long = "a dog " * 100
        found = client.post("/api/embed", {"model": "bert", "input": long}).json
        ids = encoder.prompt_ids(long)
        kept = [*ids[: encoder.n_ctx - 1], ids[-1]]
        assert np.array_equal(np.array(found["embeddings"], np.float32), encoder.embed([kept]))
        assert client.post("/api/embed", {"model": "bert", "input": long, "truncate": False}).status == 400
        assert client.post("/api/show", {"model": "bert"}).json["capabilities"] == ["embedding"]
        assert "encoder" in client.post("/api/chat", {**CHAT, "model": "bert"}).json["error"]


def test_what_is_told_of_models(client: Client, model: LLM) -> None:
    listed = client.get("/api/tags").json["models"]
    assert [entry["name"] for entry in listed] == [entry["model"] for entry in listed] == ["stories", "other"]
    details = listed[0]["details"]
    assert (details["family"], details["parameter_size"], details["quantization_level"]) == ("llama", "260.03K", "Q8_0")
    assert (len(listed[0]["digest"]), listed[0]["size"]) == (64, model.model.parts.file.path.stat().st_size)
    assert listed[0]["capabilities"] == ["completion", "tools"]
    shown = client.post("/api/show", {"model": "stories:latest"}).json
    assert shown["details"] == details
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == model.n_ctx
    assert shown["model_info"]["general.parameter_count"] == 260032
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert (shown["template"], "tensors" in shown) == (TEMPLATE, False)
    verbose = client.post("/api/show", {"name": "STORIES", "verbose": True}).json
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == model.hparams.vocab_size
    assert {tensor["name"] for tensor in verbose["tensors"]} == set(model.tensors)
    (running,) = client.get("/api/ps").json["models"]
    assert (running["name"], running["context_length"], running["size"]) == ("stories", 256, model.memory.total)
    assert (running["digest"], running["size_vram"]) == (listed[0]["digest"], 0)
    assert set(client.get("/api/version").json) == {"version", "llamaq"}
    without_page = Client(app(model, Settings(page=False)))
    for path in ("/", "/api/tags", "/api/version"):
        for each in (client, without_page):
            assert asyncio.run(each.asend("HEAD", path, b"", {})).status == 200
    assert without_page.get("/", accept="text/html").status == 404


def test_tokens_that_are_no_whole_characters_are_shown() -> None:
    tokens = [b"a", "é".encode(), "é".encode()[:1]]
    packed = memoryview(b"".join(struct.pack("<Q", len(token)) + token for token in tokens))
    array = GGUFArray(ValueType.STRING, len(tokens), packed, "little")
    assert shown._value(array, True) == ["a", "é", "\ufffd"]


def test_a_model_that_goes_while_it_is_told_about(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    application = app(stories, Settings(load={"threads": 1, "n_ctx": 128}))
    client, models = Client(application), application.state.service.models

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def after(look: Callable[..., Any]) -> Callable[..., Any]:
            def gone(*given: Any) -> Any:
                asyncio.run_coroutine_threadsafe(models.unload(None), loop).result()
                return look(*given)

            return gone

        for path, module, name in (("/api/ps", shown, "_facts_of"), ("/props", state, "_template")):
            await models.load(None)
            monkeypatch.setattr(module, name, after(getattr(module, name)))
            reply = await client.asend("GET", path, b"", {})
            assert (reply.status, b"128" in reply.body) == (200, True)
            assert [entry.state for entry in models.listed()] == ["on disk"]
        await models.close()

    asyncio.run(scenario())


def test_models_are_shown_without_being_loaded_and_come_and_go(stories: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.gguf").symlink_to(stories)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    application = app(tmp_path, Settings(load={"threads": 1, "n_ctx": 128}, template=TEMPLATE))
    client = Client(application)
    models = application.state.service.models

    async def scenario() -> None:
        async def post(path: str, body: Any) -> Any:
            return (await client.apost(path, body)).json

        async def there() -> list[str]:
            return [entry["name"] for entry in (await client.asend("GET", "/api/ps", b"", {})).json["models"]]

        names = [entry["name"] for entry in (await client.asend("GET", "/api/tags", b"", {})).json["models"]]
        assert names == ["broken", "one", "two"]
        shown = await post("/api/show", {"model": "one"})
        assert shown["model_info"]["llama.context_length"] == 128
        assert await there() == []
        asked = {"model": "one", "keep_alive": "1h"}
        body = await post("/api/generate", asked)
        assert (body["response"], body["done"], body["done_reason"]) == ("", True, "load")
        (running,) = (await client.asend("GET", "/api/ps", b"", {})).json["models"]
        assert (running["name"], running["expires_at"] < "9") == ("one", True)
        for beyond in (1e12, 1e300, "999999999999h", -1):
            await post("/api/generate", {**asked, "keep_alive": beyond})
            (running,) = (await client.asend("GET", "/api/ps", b"", {})).json["models"]
            assert running["expires_at"] == "9999-12-31T23:59:59Z"
        assert (await post("/api/chat", {"model": "one", "keep_alive": 0}))["done_reason"] == "unload"
        assert await there() == []
        once = {**CHAT, "model": "two", "keep_alive": 0, "stream": False}
        assert (await post("/api/chat", once))["eval_count"] == 8
        assert await there() == []
        for keep in (-1, "-1m"):
            await post("/api/embed", {"model": "two", "input": "x", "keep_alive": keep})
            assert await there() == ["two"]
        await models.close()

    asyncio.run(scenario())
