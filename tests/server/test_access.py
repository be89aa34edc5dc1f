"""Who may ask: keys, names of the host, web pages."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from asgi import TEMPLATE, Client
from llamaq import LLM
from llamaq.server import Settings, app

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "a secret"}], "max_tokens": 2}


def client_of(model: LLM, **settings: object) -> Client:
    return Client(app(model, Settings(template=TEMPLATE, **settings)))


def test_keys(model: LLM) -> None:
    client = client_of(model, api_keys=("one", "zwei-ü"), metrics=True)
    for headers in ({}, {"authorization": "Bearer two"}, {"authorization": "Basic one"}, {"x_api_key": "On"}):
        reply = client.post(CHAT, BODY, **headers)
        assert (reply.status, reply.error["type"]) == (401, "authentication_error")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics", **headers).status == client.get("/v1/models", **headers).status == 401
        assert client.get("/health", **headers).status == 200
    for headers in ({"authorization": "Bearer one"}, {"authorization": "bearer  one"}, {"x_api_key": "one"}):
        assert client.post(CHAT, BODY, **headers).status == 200
    utf8 = "zwei-ü".encode().decode("latin-1")  # it lies so in a header
    assert client.get("/v1/models", x_api_key=utf8).status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]:8080", "a.localhost", "localhost."]
)
def test_names_of_this_machine(client: Client, host: str) -> None:
    assert client.get("/v1/models", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil", "[::2]"]
)
def test_a_page_with_a_name_of_its_own_gets_nothing(client: Client, host: str) -> None:
    """DNS rebinding."""
    for reply in (
        client.get("/v1/models", host=host),
        client.post(CHAT, BODY, host=host),
        client.get("/health", host=host),
    ):
        assert (reply.status, reply.error["type"]) == (403, "permission_error")


def test_other_names(model: LLM) -> None:
    named = client_of(model, hosts=("ai.example", "*.lan"))
    assert [named.get("/health", host=host).status for host in ("ai.example", "x.lan", "lan", "localhost")] == [
        200, 200, 403, 403,
    ]  # fmt: skip
    assert client_of(model, hosts=("*",)).get("/health", host="x").status == 200
    keyed = client_of(model, api_keys=("k",))
    assert keyed.get("/v1/models", host="any.example", x_api_key="k").status == 200


def test_pages_of_other_origins(model: LLM) -> None:
    ask = {"origin": "http://page.example", "access_control_request_method": "POST"}
    closed = client_of(model)

    def preflight(client: Client, origin: str) -> dict[str, str]:
        return asyncio.run(client.asend("OPTIONS", CHAT, b"", {**ask, "origin": origin})).headers

    allow = "access-control-allow-origin"
    assert allow not in preflight(closed, "http://page.example")
    assert allow not in closed.post(CHAT, BODY, origin="http://page.example").headers
    some = client_of(model, cors_origins=("http://page.example", "localhost"), api_keys=("k",))
    for origin in ("http://page.example", "http://localhost:3000", "https://127.0.0.1"):
        assert preflight(some, origin)[allow] == origin
        assert some.post(CHAT, BODY, origin=origin, x_api_key="k").headers[allow] == origin
        assert "access-control-allow-credentials" not in preflight(some, origin)
    for origin in ("http://evil.example", "http://localhost.evil.example"):
        assert allow not in preflight(some, origin)
    assert preflight(client_of(model, cors_origins=("*",)), "http://any.example")[allow] in ("*", "http://any.example")


def test_what_a_browser_says_comes_from_another_site(model: LLM) -> None:
    cross = {"sec_fetch_site": "cross-site", "origin": "http://page.example"}
    assert client_of(model).post(CHAT, BODY, **cross).status == 403
    assert client_of(model).post(CHAT, BODY, **{**cross, "sec_fetch_site": "same-origin"}).status == 200
    assert client_of(model, cors_origins=("http://page.example",)).post(CHAT, BODY, **cross).status == 200


def test_the_log_has_a_line_and_no_word_of_the_text(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "llamaq"):
        reply = client.post(CHAT, BODY)
        client.get("/v1/secret-path")
    records = [record for record in caplog.records if record.name == "llamaq.server.access"]
    first, second = (record.getMessage() for record in records)
    assert first.startswith(f"{reply.headers['x-request-id']} POST {CHAT} 200 ")
    usage = reply.json["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    fields = [json.loads(vars(record)["request"]) for record in records]
    assert list(fields[0]) == ["id", "method", "path", "status", "seconds", "model", "tokens"]
    counts = {"in": usage["prompt_tokens"], "cached": cached, "out": usage["completion_tokens"]}
    assert (fields[0]["model"], fields[0]["tokens"]) == ("stories", counts)
    assert first.endswith(f" s, stories, {counts['in']} tokens in, {cached} cached, {counts['out']} out")
    assert list(fields[1]) == ["id", "method", "path", "status", "seconds"]
    assert "secret" not in first + second + str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parallel": 0}, "parallel"),
        ({"ping_seconds": -1}, "ping_seconds"),
        ({"ping_seconds": 0}, "ping_seconds"),
        ({"send_seconds": 0.0}, "send_seconds"),
        ({"api_keys": ("",)}, "api_keys"),
        ({"hosts": 3}, "hosts"),
        ({"template": 3}, "template"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Settings(**settings)


def test_keys_are_not_in_the_repr() -> None:
    assert "k-1" not in repr(Settings(api_keys=("k-1",)))
