"""A small model behind the application, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.server import Settings, app


@pytest.fixture(scope="module")
def model(stories: Path) -> Iterator[LLM]:
    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048) as llm:
        yield llm


@pytest.fixture(scope="module")
def client(model: LLM) -> Client:
    return Client(app(model, Settings(names=("stories", "other"), template=TEMPLATE, metrics=True)))
