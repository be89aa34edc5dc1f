"""Whatever Anthropic's clients send, they get a message, or an error in their own form that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_stream import frames
from asgi import TEMPLATE, Client
from fuzzing import json_values
from llamaq import LLM
from llamaq.server import Settings, app
from llamaq.server.anthropic.protocol import COUNT as COUNT_FIELDS
from llamaq.server.anthropic.protocol import MESSAGES as MESSAGES_FIELDS
from llamaq.server.fields import Field

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO: list[Any] = [{"role": "user", "content": "Tell me of Tom"}]
SMALL: dict[str, Any] = {"messages": HELLO, "max_tokens": 8, "seed": 1}
BODIES = {MESSAGES: SMALL, COUNT: {"messages": HELLO}}
TABLES = {MESSAGES: MESSAGES_FIELDS, COUNT: COUNT_FIELDS}
HONOURED = [(path, field) for path, table in TABLES.items() for field in table if field.treatment == "honoured"]
TOOL: dict[str, Any] = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"at": {}}},
}


def refused(client: Client, path: str, body: dict[str, Any]) -> str:
    """What is said of a request that is wrong."""
    reply = client.post(path, body)
    assert set(reply.json) == {"type", "error", "request_id"}
    assert (reply.status, reply.json["type"], reply.error["type"]) == (400, "error", "invalid_request_error")
    assert reply.json["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    return str(reply.error["message"])


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "cook", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "reads text only"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "text or document or image or tool_res"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}, "tool_use_id"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [IMAGE]}]}]},
         "reads text only"),
        ({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "thinking"}]}]}]},
         "content[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url"}}]}]}, "source"),
        ({"messages": [*HELLO, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "look", "input": {}}]}]}, "results follow"),
        ({"messages": [*HELLO, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "look", "input": "{}"}]}]}, "input"),
        ({"system": [IMAGE]}, "system[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name"),
        ({"tool_choice": {"type": "tool", "name": "see"}, "tools": [TOOL]}, "tool_choice"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": 3}}}}, "output_config"),
        ({"output_format": {"type": "json_schema", "schema": {"type": 3}}}, "output_format"),
        ({"output_config": {"effort": "none"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop_sequences": ["x"] * 10_000}, "stop_sequences"),
    ],
)  # fmt: skip
def test_wrong_values_name_their_field(client: Client, more: dict[str, Any], said: str) -> None:
    assert said in refused(client, MESSAGES, {**SMALL, **more})


@pytest.mark.parametrize("name", ["messages", "max_tokens"])
def test_what_must_be_given(client: Client, name: str) -> None:
    assert (
        refused(client, MESSAGES, {key: value for key, value in SMALL.items() if key != name}) == f"{name} is missing"
    )
    assert refused(client, COUNT, {}) == "messages is missing"


@pytest.mark.parametrize(("path", "field"), HONOURED, ids=[f"{path[4:]}-{field.name}" for path, field in HONOURED])
def test_a_value_of_the_wrong_kind_names_its_field(client: Client, path: str, field: Field) -> None:
    """No field takes them all."""
    wrong = [{"x": {"y": []}}, "\U0001f600", [[{}]], 1e300, -7, True]
    replies = [client.post(path, {**BODIES[path], field.name: value}) for value in wrong]
    found = [reply for reply in replies if reply.status != 200]
    assert found
    assert {reply.status for reply in found} <= {400, 404}
    assert [r.error for r in found if field.name not in r.error["message"]] == []


@pytest.mark.parametrize("path", TABLES)
def test_what_is_not_honoured_is_refused_or_named(client: Client, path: str) -> None:
    for field in TABLES[path]:
        body = {**BODIES[path], field.name: {"a": 1}}
        if field.treatment == "refused":
            assert field.name in refused(client, path, body)
        elif field.treatment == "ignored":
            reply = client.post(path, body)
            assert (reply.status, reply.headers["x-llamaq-ignored"]) == (200, field.name)
    optional = {field.name: None for field in TABLES[path] if field.name not in BODIES[path]}
    assert client.post(path, {**BODIES[path], **optional}).status == 200


@pytest.mark.parametrize("path", TABLES)
def test_strict(model: LLM, path: str) -> None:
    strict = Client(app(model, Settings(strict=True, template=TEMPLATE)))
    assert "tempratur" in refused(strict, path, {**BODIES[path], "tempratur": 1})
    odd = {**BODIES[path], "messages": [{"role": "user", "content": "x", "id": None, "mood": 1}]}
    assert "'mood' is no key of messages" in refused(strict, path, odd)
    lax = Client(app(model, Settings(template=TEMPLATE)))
    assert lax.post(path, odd).headers["x-llamaq-ignored"] == "messages.mood"


def test_too_long_a_prompt_is_told_in_words_that_agents_know(client: Client) -> None:
    long = [{"role": "user", "content": "word " * 400}]
    assert "prompt is too long: " in refused(client, MESSAGES, {**SMALL, "messages": long, "stream": True})
    assert " tokens > 256 maximum" in refused(client, MESSAGES, {**SMALL, "messages": long})


def test_names_of_anthropics_models_mean_the_one_here(client: Client, model: LLM) -> None:
    for path, body in BODIES.items():
        assert client.post(path, {**body, "model": "claude-opus-5-5"}).status == 200
        reply = client.post(path, {**body, "model": "gpt-4"})
        assert (reply.status, reply.headers["x-llamaq-ignored"]) == (200, "model")
        strict = Client(app(model, Settings(template=TEMPLATE, strict=True)))
        assert strict.post(path, {**body, "model": "claude-opus-5-5"}).status == 200
        reply = strict.post(path, {**body, "model": "gpt-4"})
        assert (reply.status, reply.error["type"]) == (404, "not_found_error")
    assert client.post(MESSAGES, {**SMALL, "model": "claude-haiku"}).json["model"] == "stories"
    own = Client(app(model, Settings(names=("stories", "claude-like"), template=TEMPLATE)))
    assert own.post(MESSAGES, {**SMALL, "model": "claude-like"}).status == 200


def test_other_errors_have_the_same_form(client: Client, model: LLM) -> None:
    for reply, status, kind in (
        (client.get(MESSAGES), 405, "invalid_request_error"),
        (client.post(f"{MESSAGES}/batches", {}), 404, "not_found_error"),
        (client.post(MESSAGES, b"{"), 400, "invalid_request_error"),
        (client.post(MESSAGES, SMALL, content_type="text/plain"), 415, "invalid_request_error"),
        (client.post(MESSAGES, SMALL, host="evil.example"), 403, "permission_error"),
        (Client(app(model, Settings(api_keys=["k"]))).post(MESSAGES, SMALL), 401, "authentication_error"),
        (Client(app(model, Settings(max_body=10))).post(MESSAGES, SMALL), 413, "request_too_large"),
    ):
        assert (reply.status, reply.json["type"], reply.error["type"]) == (status, "error", kind)
    application = app(model, Settings(template=TEMPLATE))
    application.state.service.admission.close()
    reply = Client(application).post(MESSAGES, SMALL)
    assert (reply.status, reply.error["type"], reply.headers["retry-after"]) == (529, "overloaded_error", "5")


KEYS = ["type", "role", "content", "text", "name", "input_schema", "schema", "format", "tool_use_id"]
WORDS = ["user", "assistant", "text", "tool_use", "tool_result", "auto", "none", "json_schema", "x;y"]
JSON = json_values(KEYS, WORDS)


@pytest.mark.parametrize("path", TABLES)
@settings(max_examples=150)
@given(data=st.data())
def test_whatever_json_comes_is_answered(client: Client, path: str, data: st.DataObject) -> None:
    names = [field.name for field in TABLES[path] if field.name != "max_tokens"]
    more = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=3), JSON, max_size=4))
    reply = client.post(path, {**BODIES[path], **more})
    assert reply.status in (200, 400, 404), (reply.status, reply.body)
    assert reply.ended
    if reply.headers["content-type"] == "application/json":
        assert ("error" in reply.json) == (reply.status != 200)
    else:
        assert frames(reply)[-1]["type"] in ("message_stop", "error")
