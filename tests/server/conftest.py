"""A small model behind the application, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi import TEMPLATE, Client
from browser import Page, chromium
from llamaq import LLM
from llamaq.server import Settings, app
from served import Served, served


@pytest.fixture(scope="module")
def model(stories: Path) -> Iterator[LLM]:
    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048) as llm:
        yield llm


@pytest.fixture(scope="module")
def client(model: LLM) -> Client:
    return Client(app(model, Settings(names=("stories", "other"), template=TEMPLATE, metrics=True)))


@pytest.fixture(scope="session")
def page_server(stories: Path) -> Iterator[Served]:
    """The command with its page, for tests in a browser."""
    template = TEMPLATE + "{% if enable_thinking %}<think>{% endif %}"
    options = ("-t", 1, "-c", 8192, "--alias", "stories", "--chat-template", template)
    with served(stories, *options, "--metrics", "--log-format", "none") as found:
        yield found


@pytest.fixture(scope="session")
def browser(page_server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield Page(driver, page_server.url)


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """After each test: no script has failed, the policy had nothing to refuse, and no other host was asked."""
    yield browser
    assert browser.complaints() == []
    assert [url for url in browser.requested() if not url.startswith(f"{browser.url}/")] == []
