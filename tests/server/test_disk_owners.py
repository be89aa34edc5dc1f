"""The cache on disk behind the server: what one API key's requests have left there no other finds, unless asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.server import Settings, app
from llamaq.serving.disk_prefixes import BLOCK
from llamaq.serving.request import Request

LONG = "Once upon a time there was a little girl named Lily. " * 40
MESSAGES = [{"role": "user", "content": LONG}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": LONG, "max_tokens": 1},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/messages": {"model": "stories", "messages": MESSAGES, "max_tokens": 1},
    "/v1/responses": {"model": "stories", "input": LONG, "max_output_tokens": 1},
    "/completion": {"prompt": LONG, "n_predict": 1},
    "/api/generate": {"model": "stories", "prompt": LONG, "options": {"num_predict": 1}, "stream": False},
}


@pytest.mark.parametrize("route", ROUTES)
def test_keys_find_their_own_alone(stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    def explained(request: Request, known: int, limit: str) -> str:
        brought.append(request.disk_tokens)
        return ""

    brought: list[int] = []
    monkeypatch.setattr(Request, "explain", explained)
    for key, shared, expected in (
        ("one", False, 0),
        ("two", False, 0),
        ("one", False, 1),
        ("two", True, 0),
        ("one", True, 1),
    ):
        brought.clear()
        with LLM.load(stories, n_ctx=1024, threads=1, cache_dir=tmp_path) as llm:
            settings = Settings(names=("stories",), template=TEMPLATE, api_keys=("one", "two"), cache_shared=shared)
            reply = Client(app(llm, settings)).post(route, ROUTES[route], authorization=f"Bearer {key}")
            assert reply.status == 200
        assert (max(brought) >= BLOCK) == expected, (key, shared)
