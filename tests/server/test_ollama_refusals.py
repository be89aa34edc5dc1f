"""Whatever Ollama's clients send, they get a result, or an error that names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi import Client, Reply
from fuzzing import json_values
from llamaq.server.fields import Field
from llamaq.server.ollama import protocol
from llamaq.server.ollama.protocol import OPTIONS

CHAT = {
    "model": "stories",
    "messages": [{"role": "user", "content": "Hi"}],
    "options": {"num_predict": 2, "seed": 1},
}
TEXT = {"model": "stories", "prompt": "Tell me of Tom", "options": {"num_predict": 2, "seed": 1}}
BODIES: dict[str, dict[str, Any]] = {
    "/api/generate": TEXT,
    "/api/chat": CHAT,
    "/api/embed": {"model": "stories", "input": "Tom"},
    "/api/embeddings": {"model": "stories", "prompt": "Tom"},
    "/api/show": {"model": "stories"},
}
TABLES = {path: getattr(protocol, path[5:].upper()) for path in BODIES}
FIELDS = [(path, field) for path, table in TABLES.items() for field in table]
HONOURED = [(path, field) for path, field in FIELDS if field.treatment == "honoured"]


def error_of(reply: Reply) -> str:
    assert set(reply.json) == {"error"}
    text: str = reply.json["error"]
    return text


@pytest.mark.parametrize(("path", "field"), HONOURED, ids=[f"{path[5:]}-{field.name}" for path, field in HONOURED])
def test_a_value_of_the_wrong_kind_names_its_field(client: Client, path: str, field: Field) -> None:
    wrong = [{"x": {"y": []}}, "\U0001f600", [[{}]], 1e300, -7, True]
    refused = [
        reply for value in wrong if (reply := client.post(path, {**BODIES[path], field.name: value})).status > 200
    ]
    assert refused
    assert {reply.status for reply in refused} <= {400, 404}
    assert all(field.name in error_of(reply) or reply.status == 404 for reply in refused)


@pytest.mark.parametrize("path", TABLES)
def test_what_is_not_honoured_is_refused_or_named(client: Client, path: str) -> None:
    assert client.post(
        path, {**BODIES[path], **{f.name: None for f in TABLES[path] if f.name not in BODIES[path]}}
    ).ended
    for field in TABLES[path]:
        reply = client.post(path, {**BODIES[path], field.name: {"a": 1}})
        if field.treatment == "refused":
            assert (reply.status, field.name in error_of(reply)) == (400, True)
            for neutral in field.neutral or ():
                assert client.post(path, {**BODIES[path], field.name: neutral}).status == 200
        elif field.treatment == "ignored":
            assert (reply.status, field.name in reply.headers["x-llamaq-ignored"]) == (200, True)


def test_options_are_honoured_refused_or_named(client: Client) -> None:
    for field in OPTIONS:
        reply = client.post("/api/chat", {**CHAT, "options": {"seed": 1, field.name: {"a": 1}}})
        if field.treatment == "ignored":
            assert (reply.status, f"options.{field.name}" in reply.headers["x-llamaq-ignored"]) == (200, True)
        elif field.name != "logit_bias":
            assert (reply.status, field.name in error_of(reply)) == (400, True)


def test_keys_of_messages_that_nothing_reads_are_named(client: Client) -> None:
    said: dict[str, Any] = {"role": "user", "content": "Hi", "thinking": "", "images": [], "tool_calls": None}
    assert "x-llamaq-ignored" not in client.post("/api/chat", {**CHAT, "messages": [said]}).headers
    reply = client.post("/api/chat", {**CHAT, "messages": [said, {**said, "mood": 1}]})
    assert (reply.status, reply.headers["x-llamaq-ignored"]) == (200, "messages.mood")


KEYS = ["role", "content", "function", "name", "arguments", "num_ctx", "seed", "stop", "thinking", "1"]
WORDS = ["json", "user", "tool", "5m", "-1", "high"]
JSON = json_values(KEYS, WORDS)


@pytest.mark.parametrize("path", TABLES)
@settings(max_examples=100)
@given(data=st.data())
def test_whatever_json_comes_is_answered(client: Client, path: str, data: st.DataObject) -> None:
    names = [field.name for field in TABLES[path]]
    body = {
        **BODIES[path],
        **data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=3), JSON, max_size=4)),
    }
    if isinstance(options := body.get("options"), dict):
        options["num_predict"] = 2
    else:
        body["options"] = {"num_predict": 2}
    reply = client.post(path, body)
    assert (reply.status in (200, 400, 404), reply.ended) == (True, True), reply.body
    last = json.loads(reply.body.decode().splitlines()[-1])
    assert ("error" in last) == (reply.status != 200)
