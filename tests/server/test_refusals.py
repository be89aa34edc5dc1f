"""Whatever a client sends, it gets a result, or an error that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi import TEMPLATE, Client
from fuzzing import json_values
from llamaq import LLM
from llamaq.server import Settings, app
from llamaq.server.fields import Field
from llamaq.server.native import protocol as native
from llamaq.server.openai.protocol import CHAT as CHAT_FIELDS
from llamaq.server.openai.protocol import COMPLETION, EMBEDDING
from llamaq.server.openai.responses_fields import RESPONSE
from tiny_encoders import tiny_encoder

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
HELLO = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO, "max_tokens": 2},
    "/v1/completions": {"prompt": "Tom", "max_tokens": 2},
    "/v1/embeddings": {"input": "Tom"},
    "/completion": {"prompt": "Tom", "n_predict": 2},
    "/tokenize": {"content": "Tom"},
    "/detokenize": {"tokens": [300]},
    "/embedding": {"content": "Tom"},
    RESPONSES: {"input": "Tom", "max_output_tokens": 2},
}
TABLES = {
    CHAT: CHAT_FIELDS,
    "/v1/completions": COMPLETION,
    "/v1/embeddings": EMBEDDING,
    "/completion": native.COMPLETION,
    "/tokenize": native.TOKENIZE,
    "/detokenize": native.DETOKENIZE,
    "/embedding": native.EMBEDDING,
    RESPONSES: RESPONSE,
}
FIELDS = [(path, field) for path, table in TABLES.items() for field in table]
HONOURED = [(path, field) for path, field in FIELDS if field.treatment == "honoured"]
IDS = [f"{path[4:]}-{field.name}" for path, field in HONOURED]


def is_refusal_of(reply: Any, name: str) -> bool:
    error = reply.error
    assert set(error) >= {"message", "type", "param", "code"}
    return reply.status == 400 and error["param"] == name and name in error["message"]


@pytest.mark.parametrize(("path", "field"), HONOURED, ids=IDS)
def test_a_value_of_the_wrong_kind_names_its_field(client: Client, path: str, field: Field) -> None:
    """No field takes them all."""
    wrong = [{"x": {"y": []}}, "\U0001f600", [[{}]], 1e300, -7, True]
    replies = [client.post(path, {**BODIES[path], field.name: value}) for value in wrong]
    refused = [reply for reply in replies if reply.status != 200]
    assert refused
    assert {reply.status for reply in refused} <= {400, 404}
    assert [r.error for r in refused if r.error["param"] != field.name] == []


@pytest.mark.parametrize("path", TABLES)
def test_null_is_as_if_it_were_not_there(client: Client, path: str) -> None:
    optional = [field for field in TABLES[path] if field.name not in BODIES[path]]
    assert client.post(path, {**BODIES[path], **{field.name: None for field in optional}}).status == 200


@pytest.mark.parametrize("path", TABLES)
def test_what_is_not_honoured_is_refused_or_named(client: Client, path: str) -> None:
    for field in TABLES[path]:
        reply = client.post(path, {**BODIES[path], field.name: {"a": 1}, "seed": 1})
        if field.treatment == "refused":
            assert is_refusal_of(reply, field.name)
            for neutral in field.neutral or ():
                assert client.post(path, {**BODIES[path], field.name: neutral}).status == 200
        elif field.treatment == "ignored":
            assert (reply.status, field.name in reply.headers["x-llamaq-ignored"]) == (200, True)


def test_unknown_fields_are_named_or_with_strict_refused(client: Client, model: LLM) -> None:
    asked = {**BODIES[CHAT], "tempratur": 1}
    assert client.post(CHAT, asked).headers["x-llamaq-ignored"] == "tempratur"
    strict = Client(app(model, Settings(strict=True, template=TEMPLATE)))
    assert is_refusal_of(strict.post(CHAT, asked), "tempratur")
    assert strict.post(CHAT, BODIES[CHAT]).status == 200


def test_keys_of_messages_that_nothing_reads_are_named_or_with_strict_refused(client: Client, model: LLM) -> None:
    """What OpenAI's own answers have, sent back, is no matter."""
    answer: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None}
    asked = {**BODIES[CHAT], "messages": [{"role": "user", "content": "Hi", "name": "Ada"}, answer, *HELLO]}
    assert "x-llamaq-ignored" not in client.post(CHAT, asked).headers
    odd = {**asked, "messages": [{**HELLO[0], "mood": 1}, {**answer, "refusal": "No.", "mood": 2}, *HELLO]}
    for stream in (False, True):
        reply = client.post(CHAT, {**odd, "stream": stream})
        assert (reply.status, reply.headers["x-llamaq-ignored"]) == (200, "messages.mood,messages.refusal")
    strict = Client(app(model, Settings(strict=True, template=TEMPLATE)))
    assert strict.post(CHAT, asked).status == 200
    error = strict.post(CHAT, odd).error
    assert (error["param"], "the key 'mood'" in error["message"]) == ("messages", True)


def test_many_keys_that_nothing_reads_take_no_longer_than_others(client: Client) -> None:
    """A look at all of them for each would take an hour."""
    message = {**HELLO[0], **{f"key {i}" if i % 2 else f"key{i}": i for i in range(1, 300_000)}}
    reply = client.post(CHAT, {**BODIES[CHAT], "messages": [message]})
    assert (reply.status, reply.headers["x-llamaq-ignored"].count("messages.key")) == (200, 20)


@pytest.mark.parametrize(
    ("path", "more", "name"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"role": "cook", "content": "x"}]}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        (CHAT, {"top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"n": 0}, "n"),
        (CHAT, {"n": 1000}, "n"),
        (CHAT, {"temperature": -1}, "temperature"),
        (CHAT, {"top_p": 1.5}, "top_p"),
        (CHAT, {"logit_bias": {"99999": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"x": 1}}, "logit_bias"),
        (CHAT, {"stop": ["x"] * 10_000}, "stop"),
        (CHAT, {"tool_choice": "sometimes"}, "tool_choice"),
        (CHAT, {"tools": [{"type": "web_search"}]}, "tools"),
        (CHAT, {"response_format": {"type": "xml"}}, "response_format"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 3}}}}, "response_format"),
        (CHAT, {"grammar": "root ::= nowhere"}, "grammar"),
        (CHAT, {"grammar": "root ::= [a]", "json_schema": {"type": "null"}}, "json_schema"),
        (CHAT, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ("/v1/completions", {"prompt": [[0, 99999]]}, "prompt"),
        ("/v1/completions", {"prompt": ["x"] * 64, "n": 2}, "n"),
        ("/v1/completions", {"suffix": "x"}, "suffix"),
        ("/v1/embeddings", {"input": [[1, -1]]}, "input"),
        ("/v1/embeddings", {"dimensions": 10_000}, "dimensions"),
        ("/completion", {"logit_bias": [[1, 1]] * 10_001}, "logit_bias"),
    ],
)
def test_wrong_values_name_their_field(client: Client, path: str, more: dict[str, Any], name: str) -> None:
    assert is_refusal_of(client.post(path, {**BODIES[path], **more}), name)


LONG = "word " * 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": LONG}], "stream": True}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/embeddings", {"input": LONG}),
        ("/completion", {"prompt": LONG, "stream": True}),
        ("/embedding", {"content": LONG}),
        (RESPONSES, {"input": LONG, "stream": True}),
    ],
)
def test_too_long_a_text_is_told_with_numbers(client: Client, path: str, body: dict[str, Any]) -> None:
    reply = client.post(path, body)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert reply.error["type"] == "exceed_context_size_error"
    assert (reply.error["n_prompt_tokens"] > 400, reply.error["n_ctx"]) == (True, 256)


def test_any_name_means_the_only_model_and_is_named_in_a_header(client: Client, model: LLM) -> None:
    for path, body in BODIES.items():
        for name, ignored in (("gpt-4", "model"), ("other", None), ("stories", None)):
            reply = client.post(path, {**body, "model": name})
            assert (reply.status, reply.headers.get("x-llamaq-ignored")) == (200, ignored), (path, name)
            assert "model" not in reply.json or reply.json["model"] == "stories"


def test_another_model_is_404_where_that_is_asked_for_or_there_are_several(model: LLM, stories: Path) -> None:
    strict = app(model, Settings(names=("stories",), template=TEMPLATE, strict=True))
    several = app([model, stories], Settings(template=TEMPLATE))
    fetching = app(model, Settings(names=("stories",), template=TEMPLATE, allow_pull=True))
    for client in map(Client, (strict, several, fetching)):
        for path, body in BODIES.items():
            reply = client.post(path, {**body, "model": "gpt-4"})
            assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


def test_a_star_takes_all_names(model: LLM, stories: Path) -> None:
    any_name = Client(app([model, stories], Settings(names=("*",), template=TEMPLATE)))
    name = any_name.get("/v1/models").json["data"][0]["id"]
    assert any_name.post(CHAT, {**BODIES[CHAT], "model": "gpt-4"}).json["model"] == name


def test_an_encoder_makes_vectors_alone() -> None:
    path, ids, _ = tiny_encoder("bert")
    with LLM.load(path, threads=1) as encoder:
        client = Client(app(encoder, Settings(template=TEMPLATE, metrics=True)))
        vector = client.post("/v1/embeddings", {"input": [ids.tolist()]}).json["data"][0]["embedding"]
        assert vector == encoder.embed([ids.tolist()])[0].tolist()
        for route in (CHAT, "/v1/completions"):
            reply = client.post(route, BODIES[route])
            assert (reply.status, "encoder" in reply.error["message"]) == (400, True)
        assert client.get("/v1/models").status == client.get("/metrics").status == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b'{"messages":', "not JSON"),
        (b"[]", "a JSON object"),
        (b'"\xff"', "not UTF-8"),
        (b'{"seed": NaN}', "NaN"),
        (b'{"seed": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b'{"metadata": {"a": [-1e999]}}', "beyond all floats"),
        (b'{"user": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"seed": 1, "seed": 2}', "twice"),
        (b"{" + b",".join(b'"%d":1' % i for i in range(200_000)) + b',"199999":1}', "twice"),  # found at once
        (b'{"user": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
        (b'{"user": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "deeper than 64"),
        (b"{" * 100_000, "not JSON"),
    ],
)
def test_bodies_that_are_none(client: Client, body: bytes, said: str) -> None:
    for path in TABLES:
        reply = client.post(path, body)
        assert (reply.status, said in reply.error["message"]) == (400, True)


def test_the_type_of_a_body(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert client.post(CHAT, BODIES[CHAT], content_type=kind).status == 415
    assert client.post(CHAT, BODIES[CHAT], content_type="application/json; charset=utf-8").status == 200


def test_unknown_paths_and_methods(client: Client) -> None:
    assert (client.get("/v1/nope").status, client.get("/v1/nope").error["type"]) == (404, "not_found_error")
    reply = client.get(CHAT)
    assert (reply.status, reply.headers["allow"], reply.error["type"]) == (405, "POST", "invalid_request_error")


KEYS = ["type", "role", "content", "function", "name", "parameters", "schema", "1"]
WORDS = ["auto", "none", "json_object", "text", "function", "user", "x;y", "ktp"]
JSON = json_values(KEYS, WORDS)


@pytest.mark.parametrize("path", TABLES)
@settings(max_examples=150)
@given(data=st.data())
def test_whatever_json_comes_is_answered(client: Client, path: str, data: st.DataObject) -> None:
    names = [
        field.name
        for field in TABLES[path]
        if field.name not in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens")
    ]
    more = data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=3), JSON, max_size=4))
    reply = client.post(path, {**BODIES[path], **more})
    assert reply.status in (200, 400, 404), (reply.status, reply.body)
    assert reply.ended
    if reply.headers["content-type"] == "application/json":
        body = json.loads(reply.body)
        told = body.get("error") if isinstance(body, dict) else None
        assert (told is not None) == (reply.status != 200)
    else:
        last = reply.body.decode().removesuffix("\n\n").rpartition("\n\n")[2]
        assert last.startswith(("data: [DONE]", 'data: {"error":', "event: response."))
