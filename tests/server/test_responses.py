"""OpenAI's responses: items in, items out, and the events between, also as OpenAI's client reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx2
import openai
import pytest

from asgi import Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app
from llamaq.server.openai import responses
from llamaq.server.openai.responses_fields import RESPONSE
from llamaq.server.openai.responses_input import hidden
from llamaq.server.openai.responses_output import Output
from llamaq.structure import gbnf

PATH = "/v1/responses"
TEMPLATE = "{{ '<tool_call> ' if tools }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
ASKED: dict[str, Any] = {"model": "stories", "input": "Tell me of Tom"}
SMALL = {**ASKED, "max_output_tokens": 8, "seed": 1}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"at": {}}}, "strict": False}
PICK = {
    "type": "function", "name": "pick", "strict": True,
    "parameters": {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]},
}  # fmt: skip
CALL = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>'
WRITTEN = f"<think>Hm.</think>Yes.{CALL}"


@pytest.fixture(scope="module")
def client(model: LLM) -> Client:
    return Client(app(model, Settings(names=("stories",), template=TEMPLATE)))


@pytest.fixture
def sdk(client: Client) -> Iterator[Any]:
    """OpenAI's client, which is strict about what it gets, and whose requests the application answers."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        method, path, body = request.method, request.url.path, request.content
        reply = asyncio.run(client.asend(method, path, body, {"content-type": "application/json"}))
        return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        address: Any = {"base_url": "http://localhost/v1", "api_key": "k", "max_retries": 0}
        yield openai.OpenAI(**address, http_client=http, _strict_response_validation=True)


@pytest.fixture
def scripted() -> Iterator[dict[str, Any]]:
    """Fields with which the model can write one text alone."""
    grammar = gbnf(f"root ::= {json.dumps(WRITTEN)}")
    with mock.patch.object(responses, "structure_of", return_value=grammar):
        yield {**ASKED, "tools": [LOOK], "text": {"format": {"type": "text"}}}


def events(reply: Reply) -> list[dict[str, Any]]:
    """The events of a stream, whose names and numbers fit."""
    found = []
    for part in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        first, second = part.split("\n")
        found.append(json.loads(second.removeprefix("data: ")))
        assert first == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == [*range(len(found))]
    return found


def test_a_response_is_what_the_library_says(client: Client, model: LLM) -> None:
    body = client.post(PATH, {**SMALL, "instructions": "Be brief."}).json
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of Tom"}]
    done = model.chat(said, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=1))
    (item,) = body["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "incomplete")
    assert item["content"] == [{"type": "output_text", "text": done.text, "annotations": [], "logprobs": []}]
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["object"], body["store"], body["instructions"]) == ("response", False, "Be brief.")
    assert body["usage"]["input_tokens"] == done.usage.prompt_tokens
    assert body["usage"]["output_tokens"] == 8
    assert body["usage"]["total_tokens"] == done.usage.prompt_tokens + 8


def test_the_events_are_in_openais_order(client: Client, scripted: dict[str, Any]) -> None:
    whole = client.post(PATH, scripted).json
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call"]
    found = events(client.post(PATH, {**scripted, "stream": True}))
    names = [event["type"].removeprefix("response.") for event in found]
    assert list(dict.fromkeys(names)) == [
        *("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done", "output_text.delta", "output_text.done"),
        *("function_call_arguments.delta", "function_call_arguments.done", "completed"),
    ]
    for index, item in enumerate(whole["output"]):
        mine = [event for event in found if event.get("output_index") == index]
        kind = {"reasoning": "reasoning_text", "message": "output_text"}.get(item["type"], "function_call_arguments")
        parted = item["type"] != "function_call"
        assert [*dict.fromkeys(event["type"].removeprefix("response.") for event in mine)] == [
            "output_item.added", *(["content_part.added"] if parted else []), f"{kind}.delta", f"{kind}.done",
            *(["content_part.done"] if parted else []), "output_item.done",
        ]  # fmt: skip
        assert {event.get("item_id") for event in mine} == {None, mine[0]["item"]["id"]}
        assert {event.get("content_index") for event in mine} == ({None, 0} if parted else {None})
        assert mine[0]["item"]["status"] == "in_progress"
        assert without_ids(mine[-1]["item"]) == without_ids(item)
        joined = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert joined == (item["content"][0]["text"] if parted else item["arguments"])
    assert (found[0]["response"]["status"], found[0]["response"]["output"]) == ("in_progress", [])
    last = found[-1]["response"]
    assert [without_ids(item) for item in last["output"]] == [without_ids(item) for item in whole["output"]]
    assert last["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in ("id", "call_id")}


def test_openais_client_reads_it(sdk: Any, scripted: dict[str, Any]) -> None:
    done = sdk.responses.create(**scripted)
    assert done.output_text == "Yes."
    with sdk.responses.stream(**scripted) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.output_text.delta", "response.function_call_arguments.delta"} <= kinds
    plain = [*sdk.responses.create(**scripted, stream=True)][-1]
    assert plain.type == "response.completed"
    for each in (done, final, plain.response):
        reasoning, message, call = each.output
        assert reasoning.type == "reasoning"
        assert reasoning.content is not None
        assert reasoning.content[0].text == "Hm."
        assert (message.type, each.output_text) == ("message", "Yes.")
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments), call.status) == ("look", {"at": "a"}, "completed")
        assert each.usage is not None
        assert each.usage.output_tokens_details.reasoning_tokens > 0


def test_openais_client_goes_on_with_what_came(sdk: Any, client: Client, scripted: dict[str, Any]) -> None:
    asked = {**scripted, "include": ["reasoning.encrypted_content"]}
    done = sdk.responses.create(**asked)
    reasoning, message, call = (item.to_dict() for item in done.output)
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Nothing."}
    said = [{"role": "user", "content": "Look."}, reasoning, message, call, output]
    (values,) = read(said)
    turn = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    called = {"name": "look", "arguments": '{"at": "a"}'}
    turn["tool_calls"] = [{"id": call["call_id"], "type": "function", "function": called}]  # type: ignore[assignment]
    result = {"role": "tool", "tool_call_id": call["call_id"], "content": "Nothing.", "name": "look"}
    assert values == [said[0], turn, result]
    (hidden,) = read([{**reasoning, "content": None, "summary": []}, message])
    assert hidden == [{"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}]
    assert client.post(PATH, {**scripted, "input": said}).status == 200


def read(*inputs: Any) -> list[list[dict[str, Any]]]:
    return [RESPONSE[0].read("input", each) for each in inputs if RESPONSE[0].read is not None]


def test_items_become_messages() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}]
    call = {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": "*** x"}
    found = read(
        "Hello",
        [{"role": "developer", "content": parts}, {"type": "message", "role": "user", "content": "c"}],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        [call, {**call, "call_id": "2"}, {"type": "custom_tool_call_output", "call_id": "2", "output": parts}],
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]}, {"role": "user", "content": "c"}],
        [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, {"role": "user", "content": "c"}],
    )
    patch = {"type": "function", "function": {"name": "patch", "arguments": {"input": "*** x"}}}
    assert found == [
        [{"role": "user", "content": "Hello"}],
        [{"role": "developer", "content": "ab"}, {"role": "user", "content": "c"}],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "1", **patch}, {"id": "2", **patch}]},
         {"role": "tool", "tool_call_id": "2", "content": "ab", "name": "patch"}],
        [{"role": "assistant", "content": "", "reasoning_content": "s"}, {"role": "user", "content": "c"}],
        [{"role": "user", "content": "c"}],
    ]  # fmt: skip


def test_a_call_that_must_come(sdk: Any) -> None:
    asked: Any = {**ASKED, "tools": [PICK], "tool_choice": "required", "parallel_tool_calls": False}
    done = sdk.responses.create(**asked, extra_body={"seed": 3})
    (call,) = done.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["n"] in (1, 2)
    assert (done.status, done.tool_choice) == ("completed", "required")


def test_a_structured_answer(sdk: Any) -> None:
    schema = {"type": "object", "properties": {"yes": {"enum": [True, 1]}}, "required": ["yes"]}
    format: Any = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    done = sdk.responses.create(**ASKED, text={"format": format})
    assert json.loads(done.output_text) in ({"yes": True}, {"yes": 1})
    assert (
        sdk.responses.create(**ASKED, text={"format": {"type": "json_object"}}, max_output_tokens=5).output_text[0]
        == "{"
    )


def test_log_probabilities(client: Client) -> None:
    asked = {**SMALL, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    entries = client.post(PATH, asked).json["output"][0]["content"][0]["logprobs"]
    assert len(entries) == 8
    assert {len(entry["top_logprobs"]) for entry in entries} == {2}
    found = events(client.post(PATH, {**asked, "stream": True}))
    told = [entry for event in found if event["type"] == "response.output_text.delta" for entry in event["logprobs"]]
    assert told == entries[: len(told)]
    (done,) = [event for event in found if event["type"] == "response.output_text.done"]
    assert done["logprobs"] == entries


def test_tools_of_other_kinds(client: Client, sdk: Any) -> None:
    space = {"type": "namespace", "name": "crm", "description": "", "tools": [PICK]}
    tools = [{"type": "web_search"}, {"type": "mcp", "server_label": "x"}, space]
    reply = client.post(PATH, {**ASKED, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False})
    assert reply.headers["x-llamaq-ignored"] == "tools[0].web_search,tools[1].mcp"
    (call,) = reply.json["output"]
    assert (call["name"], call["namespace"]) == ("pick", "crm")
    custom: Any = {"type": "custom", "name": "note", "description": "Writes."}
    text = '<tool_call>{"name": "note", "arguments": {"input": "a\\"b"}}</tool_call>'
    with mock.patch.object(responses, "structure_of", return_value=gbnf(f"root ::= {json.dumps(text)}")):
        asked: Any = {**ASKED, "tools": [custom], "text": {}}
        done = sdk.responses.create(**asked)
        with sdk.responses.stream(**asked) as stream:
            final = stream.get_final_response()
    for each in (done, final):
        (item,) = each.output
        assert item.type == "custom_tool_call"
        assert (item.name, item.input) == ("note", 'a"b')


def test_an_answer_that_fails_after_it_began(client: Client, sdk: Any) -> None:
    with mock.patch.object(Output, "end", side_effect=RuntimeError("broken")):
        found = events(client.post(PATH, {**SMALL, "stream": True}))
        assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
        assert found[-1]["response"]["status"] == "failed"
        assert found[-1]["response"]["error"]["code"] == "server_error"
        *_, error, last = sdk.responses.create(**ASKED, max_output_tokens=3, stream=True)
        assert (error.type, last.type) == ("error", "response.failed")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input"),
        ({"input": [{"role": "critic", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"type": "local_shell_call", "id": "x"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "f"}]}, "input"),
        ({"input": [{"type": "reasoning", "encrypted_content": "llamaq:%"}]}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "odd"}}}}, "text"),
        ({"reasoning": {"effort": "some"}}, "reasoning"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "long " * 400}, "input"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_cannot_be_answered(client: Client, asked: dict[str, Any], param: str, streamed: bool) -> None:
    reply = client.post(PATH, {**SMALL, **asked, "stream": streamed})
    assert (reply.status, reply.error["param"]) == (400, param), reply.error


def test_a_prompt_that_is_cut(client: Client) -> None:
    body = client.post(PATH, {**SMALL, "input": "long " * 400, "truncation": "auto"}).json
    assert body["usage"]["input_tokens"] <= 256
    assert body["truncation"] == "auto"


def test_what_is_ignored_is_told(client: Client) -> None:
    asked = {"store": True, "user": "me", "prompt_cache_key": "x", "metadata": {"a": "b"}, "odd": 1}
    reply = client.post(PATH, {**SMALL, **asked})
    assert reply.headers["x-llamaq-ignored"] == "store,user,prompt_cache_key,odd"
    assert (reply.json["metadata"], reply.json["store"]) == ({"a": "b"}, False)


def test_keys_of_items_that_nothing_reads_are_named_or_with_strict_refused(client: Client, model: LLM) -> None:
    """What a response's own items have, sent back, is no matter."""
    said = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": [{"token": "Hi"}]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}"}
    output: dict[str, Any] = {"type": "function_call_output", "call_id": "1", "output": [{**said, "logprobs": []}]}
    own = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": hidden("Hm."), "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [said], "status": "completed"},
        {**call, "namespace": "crm", "status": "completed"},
        output,
    ]
    strict = Client(app(model, Settings(names=("stories",), strict=True, template=TEMPLATE)))
    for each in (client, strict):
        reply = each.post(PATH, {**SMALL, "input": own})
        assert (reply.status, "x-llamaq-ignored" in reply.headers) == (200, False), reply.error
    for item, names in (
        ({"role": "user", "content": "Hi", "phase": "x", "arguments": "{}"}, "input.phase,input.arguments"),
        ({"role": "user", "content": [{**said, "detail": "low"}]}, "input.content.detail"),
        ({**output, "output": [{**said, "mood": 1}], "name": "f"}, "input.name,input.output.mood"),
        ({**call, "mood": 1, "caller": None}, "input.mood"),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm.", "mood": 1}]}, "input.summary.mood"),
    ):
        for streamed in (False, True):
            reply = client.post(PATH, {**SMALL, "input": [*own, item, own[0]], "stream": streamed})
            assert (reply.status, reply.headers.get("x-llamaq-ignored")) == (200, names), item
        error = strict.post(PATH, {**SMALL, "input": [*own, item, own[0]]}).error
        assert names.split(",")[0].endswith(f".{error['message'].split(chr(39))[1]}"), error
    theirs = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    for known, name in (
        ({"input": [*own, theirs]}, "input.encrypted_content"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    ):
        assert strict.post(PATH, {**SMALL, **known}).headers["x-llamaq-ignored"] == name


def test_nothing_is_kept(client: Client, sdk: Any) -> None:
    for ask in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.cancel, sdk.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match="this server keeps none"):
            ask("resp_1")
    count = sdk.responses.input_tokens.count(model="stories", input="Tell me of Tom")
    assert count.input_tokens == client.post(PATH, SMALL).json["usage"]["input_tokens"]


def test_openais_coroutines(client: Client, scripted: dict[str, Any]) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        path, body = request.url.path, request.content
        reply = await client.asend("POST", path, body, {"content-type": "application/json"})
        return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)

    async def ask() -> list[str]:
        async with (
            httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http,
            openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="k", max_retries=0, http_client=http) as client_,
        ):
            sdk: Any = client_
            done = await sdk.responses.create(**scripted)
            async with sdk.responses.stream(**scripted) as stream:
                final = await stream.get_final_response()
            return [done.output_text, final.output_text]

    assert asyncio.run(ask()) == ["Yes.", "Yes."]
