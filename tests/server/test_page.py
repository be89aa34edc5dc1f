"""How the page is served."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from asgi import Client
from llamaq import LLM
from llamaq.server import Settings, app, page
from llamaq.server.page import FILES
from served import served

HTML = {"accept": "text/html,application/xhtml+xml"}


def test_browsers_get_the_page_and_others_a_line(client: Client) -> None:
    found = client.get("/", **HTML)
    assert (found.status, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert found.body.startswith(b"<!doctype html>")
    assert asyncio.run(client.asend("HEAD", "/", b"", HTML)).status == 200
    plain = client.get("/", accept="*/*")
    assert (plain.status, plain.body, plain.headers["vary"]) == (200, b"llamaq is running\n", "accept")


def test_every_file_is_served_with_a_policy(client: Client) -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    for name in FILES:
        found = client.get(f"/page/{name}")
        assert (found.status, found.headers["content-type"].split(";")[0]) == (200, kinds[name.split(".")[1]])
        policy = found.headers["content-security-policy"].split("; ")
        assert policy[:4] == ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"]
        assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
        assert "unsafe" not in found.headers["content-security-policy"]
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_page_needs_no_key_and_its_data_does(model: LLM) -> None:
    client = Client(app(model, Settings(api_keys=("k",))))
    assert {client.get(path, **HTML).status for path in page.PUBLIC} == {200}
    assert client.get("/v1/models").status == client.get("/page/other.js").status == 401


def test_another_host_gets_no_page(client: Client) -> None:
    assert client.get("/", host="evil.example", **HTML).status == 403


def test_without_the_page_there_is_nothing(model: LLM) -> None:
    client = Client(app(model, Settings(page=False)))
    assert {client.get(path, **HTML).status for path in page.PUBLIC} == {404}


@pytest.mark.subprocess
def test_the_command_tells_where_the_page_is_or_has_none(stories: Path) -> None:
    with served(stories, "-t", 1, "--log-format", "none") as server:
        assert server.lines[-1] == f"llamaq: its web page is {server.url}/"
    with served(stories, "-t", 1, "--log-format", "none", "--no-webui") as server:
        assert not [line for line in server.lines if "web page" in line]
        with pytest.raises(HTTPError, match="404"):
            urlopen(Request(f"{server.url}/", headers=HTML))


def test_the_page_is_small_and_complete(client: Client) -> None:
    """Everything that lies beside it is served, and names nothing but that."""
    paths = [path for path in Path(page.__file__).parent.iterdir() if path.suffix in (".html", ".css", ".js")]
    files = {path.name: path.read_text(encoding="utf-8") for path in paths}
    assert files.keys() == FILES.keys()
    sent = {name: client.get(f"/page/{name}").body for name in FILES}
    assert sum(map(len, sent.values())) < 60_000
    for name, text in files.items():
        comment = ("//", "/*") if name.endswith("css") else ("//", "/*", "*")
        bare = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(comment)]
        assert sent[name].decode().split("\n") in ([*filter(None, bare)], [*filter(None, bare), ""])
        assert len(text.splitlines()) <= 400, name
        assert set(re.findall(r"""from "\./([\w.]+)";""", text)) <= files.keys()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
        assert not re.search(r"""(src|href|url|fetch|import)\W{1,3}https?://""", text), name


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/__init__.py", "/page/%2e%2e/app.py"])
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_a_look_at_the_page_is_one_line_of_the_log(model: LLM, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(app(model))
    with caplog.at_level("INFO", "llamaq.server.access"):
        assert client.get("/", accept="text/html").status == 200
        for name in page.FILES:
            assert client.get(f"/page/{name}").status == 200
        assert client.get("/page/nothing.js").status == 404
        assert asyncio.run(client.asend("POST", "/page/page.js", b"", {})).status == 405
    told = [record.getMessage().split()[1:4] for record in caplog.records]
    assert told == [["GET", "/", "200"], ["GET", "other", "404"], ["POST", "/page/page.js", "405"]]
