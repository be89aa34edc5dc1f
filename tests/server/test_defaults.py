"""What the owner of a model wants where a request says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.server import Settings, app
from model_places import Places

CHAT = "/v1/chat/completions"
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of Tom"}]


def test_what_a_models_owner_wants_holds_where_a_request_says_nothing(
    stories: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = Places(tmp_path, monkeypatch, stories.read_bytes())
    places.ollama(params={"temperature": 0, "seed": 5, "stop": ["."]}, system="Be brief.")
    with LLM.load("llama3.2", threads=2, n_ctx=128) as owned, LLM.load(stories, threads=2, n_ctx=128) as plain:
        settings = Settings(names=("m",), template=TEMPLATE)
        wants, plain_client = Client(app(owned, settings)), Client(app(plain, settings))
        own = {"temperature": 0, "seed": 5, "stop": ["."]}
        bodies: dict[str, dict[str, Any]] = {CHAT: {"messages": HELLO}, "/v1/completions": {"prompt": "Once"}}
        for route, body in bodies.items():
            small = {**body, "max_tokens": 40}
            reply, expected = wants.post(route, small), plain_client.post(route, {**small, **own})
            assert reply.json["choices"] == expected.json["choices"]
            assert reply.headers["x-llamaq-seed"] == "5"
            asked = {**small, "temperature": 1.5, "seed": 9}
            expected = plain_client.post(route, {**asked, "stop": ["."]})
            assert wants.post(route, asked).json["choices"] == expected.json["choices"]
        alone = wants.post(CHAT, {"messages": HELLO[1:], "max_tokens": 4})
        assert alone.json["usage"] == wants.post(CHAT, {"messages": HELLO, "max_tokens": 4}).json["usage"]
