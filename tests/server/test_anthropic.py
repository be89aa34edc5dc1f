"""What Anthropic's routes answer, beside what the library says."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest import mock

import pytest

from anthropic_stream import assembled, frames
from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app
from llamaq.server.anthropic import messages
from llamaq.server.anthropic.conversation import read_messages, read_system
from llamaq.structure import gbnf

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HELLO: list[Any] = [{"role": "user", "content": "Tell me of Tom"}]
SMALL: dict[str, Any] = {"messages": HELLO, "max_tokens": 8, "seed": 1}
TOOL: dict[str, Any] = {
    "name": "look",
    "description": "Looks.",
    "input_schema": {"type": "object", "properties": {"at": {}}},
}
CALLS = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>' * 2


def both(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, which is the same streamed."""
    reply = client.post(MESSAGES, body)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    stream = client.post(MESSAGES, {**body, "stream": True})
    assert stream.headers["content-type"] == "text/event-stream"
    events = frames(stream)
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == ["message_start", "ping", "message_stop"]
    whole, pieces = reply.json, assembled(events)
    for found in (whole, pieces):
        assert found.pop("id").startswith("msg_")
        usage = found["usage"]
        usage["prompt"] = usage.pop("input_tokens") + usage.pop("cache_read_input_tokens")
        assert all(block.pop("id").startswith("call_") for block in found["content"] if block["type"] == "tool_use")
    assert whole == pieces
    return whole


def scripted(client: Client, body: dict[str, Any], grammar: str) -> dict[str, Any]:
    """The answer of a model that can only write what the grammar has."""
    with mock.patch.object(messages, "structure_of", return_value=gbnf(grammar)):
        return both(client, body)


def test_a_message_is_what_the_library_says(client: Client, model: LLM) -> None:
    done = model.chat(HELLO, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=1))
    assert both(client, SMALL) == {
        "type": "message", "role": "assistant", "model": "stories",
        "content": [{"type": "text", "text": done.text}], "stop_reason": "max_tokens", "stop_sequence": None,
        "usage": {
            "cache_creation_input_tokens": 0, "output_tokens": 8, "prompt": done.usage.prompt_tokens,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }  # fmt: skip


def test_the_events_in_their_order(client: Client) -> None:
    events = frames(client.post(MESSAGES, {**SMALL, "stream": True}))
    kinds = [event["type"] for event in events]
    count = kinds.count("content_block_delta")
    deltas = ["content_block_delta"] * count
    assert kinds == [
        "message_start", "ping", "content_block_start", *deltas, "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    start = events[0]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 0)
    assert events[2] == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert events[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert events[-2]["usage"] == {**start["usage"], "output_tokens": 8}


def test_what_was_read_before_is_counted_apart(client: Client) -> None:
    body = {**SMALL, "system": "Of cats and of dogs."}
    count = client.post(COUNT, {"messages": HELLO, "system": body["system"]}).json["input_tokens"]
    first, second = (client.post(MESSAGES, body).json["usage"] for _ in range(2))
    assert [u["input_tokens"] + u["cache_read_input_tokens"] for u in (first, second)] == [count, count]
    assert second["cache_read_input_tokens"] == count - 1 > first["cache_read_input_tokens"]
    start = frames(client.post(MESSAGES, {**body, "stream": True}))[0]["message"]["usage"]
    assert start == {**second, "output_tokens": 0}


def test_a_count_is_that_of_the_prompt(client: Client, model: LLM) -> None:
    for more in ({}, {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": {"type": "none"}}, {"system": "Be brief."}):
        body = {"messages": HELLO, **more}
        usage = client.post(MESSAGES, {**SMALL, **body}).json["usage"]
        count = client.post(COUNT, body).json
        assert count == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
    long = client.post(COUNT, {"messages": [{"role": "user", "content": "word " * 1000}]})
    assert long.json["input_tokens"] > model.n_ctx


def test_a_stop_sequence_is_named(client: Client, model: LLM) -> None:
    whole = model.chat(HELLO, template=TEMPLATE, max_tokens=30, sampling=SamplingParams(seed=1)).text
    word = whole.split()[2]
    message = both(client, {**SMALL, "max_tokens": 30, "stop_sequences": ["never this", word]})
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", word)
    assert message["content"] == [{"type": "text", "text": whole[: whole.index(word)]}]


@pytest.mark.parametrize(("grammar", "reason"), [('root ::= "Yes."', "end_turn"), ("root ::= [a-z ]*", "max_tokens")])
def test_why_an_answer_ended(client: Client, grammar: str, reason: str) -> None:
    assert scripted(client, {**SMALL, "max_tokens": 20}, grammar)["stop_reason"] == reason


def test_the_end_of_the_context(client: Client, model: LLM) -> None:
    message = scripted(client, {**SMALL, "max_tokens": 10_000}, "root ::= [a-z ]*")
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert message["usage"]["prompt"] + message["usage"]["output_tokens"] >= model.n_ctx


def test_nothing_but_the_prompt_is_read(client: Client) -> None:
    message = both(client, {**SMALL, "max_tokens": 0})
    assert (message["content"], message["usage"]["output_tokens"]) == ([], 0)


def test_tool_calls(client: Client) -> None:
    body = {**SMALL, "max_tokens": 200, "tools": [TOOL]}
    message = scripted(client, body, f"root ::= {json.dumps(CALLS)}")
    assert message["content"] == [{"type": "tool_use", "name": "look", "input": {"at": "a"}}] * 2
    assert message["stop_reason"] == "tool_use"


NARROW = [{"name": name, "input_schema": {"additionalProperties": False}} for name in ("look", "hear")]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "hear"}])
def test_a_call_must_come(client: Client, choice: dict[str, Any]) -> None:
    one = {**choice, "disable_parallel_tool_use": True}
    message = both(client, {**SMALL, "max_tokens": 100, "tools": NARROW, "tool_choice": one})
    (block,) = message["content"]
    assert (block["type"], block["input"], message["stop_reason"]) == ("tool_use", {}, "tool_use")
    assert block["name"] in ({"hear"} if "name" in choice else {"look", "hear"})


def test_one_call_alone(client: Client) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    body = {**SMALL, "max_tokens": 200, "tools": [TOOL], "tool_choice": choice}
    message = scripted(client, body, f"root ::= {json.dumps(CALLS)}")
    assert [block["input"] for block in message["content"]] == [{"at": "a"}]


def test_a_call_that_is_cut_off_is_text(client: Client) -> None:
    body = {**SMALL, "max_tokens": 40, "tools": [TOOL]}
    endless = json.dumps(CALLS[: CALLS.index('a"}')])
    with mock.patch.object(messages, "structure_of", return_value=gbnf(f"root ::= {endless} [a-z]*")):
        message = client.post(MESSAGES, body).json
        events = frames(client.post(MESSAGES, {**body, "stream": True}))
    assert message["stop_reason"] == events[-2]["delta"]["stop_reason"] == "max_tokens"
    (block,) = message["content"]
    assert (block["type"], block["text"].startswith('look{"at": "')) == ("text", True)
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == ["tool_use"]


def test_thoughts_come_apart(client: Client) -> None:
    message = scripted(client, {**SMALL, "max_tokens": 60}, 'root ::= "<think>Hm.</think>Yes."')
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "llamaq"}, {"type": "text", "text": "Yes."},
    ]  # fmt: skip
    assert 0 < message["usage"]["output_tokens_details"]["thinking_tokens"] < message["usage"]["output_tokens"]


def test_the_beginning_of_the_answer_is_gone_on_with(client: Client, model: LLM) -> None:
    begun = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": " Tom was"}]}]
    said = [*HELLO, {"role": "assistant", "content": " Tom was"}]
    done = model.chat(said, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=1))
    assert both(client, {**SMALL, "messages": begun})["content"] == [{"type": "text", "text": done.text}]


YES = {"type": "object", "properties": {"yes": {"enum": [True, 1]}}, "required": ["yes"]}


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_structure_is_kept(client: Client, place: str) -> None:
    format = {"type": "json_schema", "schema": YES}
    more = {place: {"format": format} if place == "output_config" else format}
    message = both(client, {**SMALL, "max_tokens": 60, **more})
    assert json.loads(message["content"][0]["text"]) in ({"yes": True}, {"yes": 1})
    assert message["stop_reason"] == "end_turn"


SHOWN = "{{ enable_thinking }} {{ reasoning_effort }} {% for m in messages %}{{ m.content }}{% endfor %}:"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, " "),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "True "),
        ({"thinking": {"type": "disabled"}}, "False "),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, " low"),
    ],
)
def test_thinking_and_effort_are_the_templates_variables(model: LLM, more: dict[str, Any], said: str) -> None:
    client = Client(app(model, Settings(template=SHOWN)))
    message = both(client, {**SMALL, **more})
    text = f"{said} {HELLO[0]['content']}:"
    done = model.generate(text, max_tokens=8, sampling=SamplingParams(seed=1))
    assert message["content"] == [{"type": "text", "text": done.text}]
    ignored = client.post(MESSAGES, {**SMALL, **more}).headers.get("x-llamaq-ignored")
    assert ignored == ("thinking.budget_tokens" if "budget_tokens" in str(more) else None)


def test_blocks_become_messages() -> None:
    call = {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": 1}}
    blocks: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be quick."},
        {"role": "user", "content": [{"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "redacted_thinking", "data": "y"}, call,
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "A cat"}]},
            {"type": "tool_result", "tool_use_id": "c2", "content": "gone", "is_error": True},
            {"type": "tool_result", "tool_use_id": "c3"},
            {"type": "document", "title": "Cats", "source": {"type": "text", "data": "Mew"}},
            {"type": "text", "text": "Now?"},
        ]},
        {"role": "assistant", "content": "A "},
        {"role": "assistant", "content": "cat"},
    ]  # fmt: skip
    function = {"name": "look", "arguments": {"at": 1}}
    assert read_messages("messages", blocks) == [
        {"role": "user", "content": "Hi\nBe quick.\nLook"},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.",
         "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "A cat", "name": "look"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: gone"},
        {"role": "tool", "tool_call_id": "c3", "content": ""},
        {"role": "user", "content": "Cats\nMew\nNow?"},
        {"role": "assistant", "content": "A cat"},
    ]  # fmt: skip
    content = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Mew"}]}}
    assert read_messages("messages", [{"role": "user", "content": [content]}]) == [{"role": "user", "content": "Mew"}]
    assert read_messages("messages", [{"role": "user", "content": []}]) == [{"role": "user", "content": ""}]


def test_pictures_in_results_come_behind_them() -> None:
    """As screenshots and files do that agents have read."""

    def image(data: str) -> dict[str, Any]:
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}

    def shown(data: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": f"data:;base64,{data}"}

    text = {"type": "text", "text": "A page:"}
    results = [{"type": "tool_result", "tool_use_id": "a", "content": [text, image("x"), image("y")]},
               {"type": "tool_result", "tool_use_id": "b", "content": [image("z")]}]  # fmt: skip
    said = [{"role": "tool", "tool_call_id": "a", "content": "A page:"},
            {"role": "tool", "tool_call_id": "b", "content": ""}]  # fmt: skip
    pictures = [shown("x"), shown("y"), shown("z")]
    assert read_messages("m", [{"role": "user", "content": results}]) == [*said, {"role": "user", "content": pictures}]
    more = [*results, {"type": "text", "text": "Now?"}, image("w")]
    assert read_messages("m", [{"role": "user", "content": more}]) == [
        *said, {"role": "user", "content": [*pictures, {"type": "text", "text": "Now?"}, shown("w")]},
    ]  # fmt: skip


def test_the_line_that_differs_each_time_is_left_out_of_the_systems_text() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1; cch=36ee5;"
    assert read_system("system", [{"type": "text", "text": line}, {"type": "text", "text": "Be brief."}]) == "Be brief."
    assert read_system("system", f"{line}\nBe brief.") == "Be brief."
    assert read_system("system", f"Say {line}") == f"Say {line}"


def test_head_of_the_root_is_answered(client: Client) -> None:
    reply = asyncio.run(client.asend("HEAD", "/", b"", {}))
    assert (reply.status, reply.body) == (200, b"")


def test_a_silent_stream_gives_signs_of_life(model: LLM) -> None:
    client = Client(app(model, Settings(template=TEMPLATE, ping_seconds=0.01)))
    made, reply = messages.Messages.frames, Reply()

    async def silent(self: messages.Messages) -> Any:
        async for frame in made(self):
            while "message_stop" in frame and b"event: ping" not in reply.body.partition(b"message_delta")[2]:
                await asyncio.sleep(0.001)
            yield frame

    with mock.patch.object(messages.Messages, "frames", silent):
        events = frames(asyncio.run(client.apost(MESSAGES, {**SMALL, "stream": True}, reply)))
    kinds = [event["type"] for event in events]
    assert kinds[kinds.index("message_delta") + 1] == "ping"


def test_an_error_in_the_middle_is_an_event(client: Client) -> None:
    with mock.patch.object(messages.Messages, "_end", side_effect=RuntimeError("broken")):
        events = frames(client.post(MESSAGES, {**SMALL, "stream": True}))
        assert client.post(MESSAGES, SMALL).status == 500
    assert (events[-1]["type"], events[-1]["error"]["type"]) == ("error", "api_error")
    assert "broken" not in str(events)
    assert not {"message_delta", "message_stop"} & {event["type"] for event in events}


def test_an_answer_that_takes_too_long_is_an_error_of_time(model: LLM) -> None:
    client = Client(app(model, Settings(template=TEMPLATE, answer_seconds=0.3)))
    made = messages.Messages.frames

    async def stuck(self: messages.Messages, *_: Any) -> Any:
        await asyncio.Event().wait()

    async def stuck_frames(self: messages.Messages) -> Any:
        async for frame in made(self):
            yield frame
            await stuck(self)

    with mock.patch.multiple(messages.Messages, whole=stuck, frames=stuck_frames):
        whole, streamed = client.post(MESSAGES, SMALL), client.post(MESSAGES, {**SMALL, "stream": True})
    assert (whole.status, whole.error["type"]) == (408, "timeout_error")
    assert (frames(streamed)[-1]["type"], frames(streamed)[-1]["error"]["type"]) == ("error", "timeout_error")


def test_the_same_alone_and_among_others(model: LLM) -> None:
    client = Client(app(model, Settings(template=TEMPLATE, parallel=8)))
    cases = [{**SMALL, "messages": [{"role": "user", "content": f"Of {i}"}], "seed": i} for i in range(16)]
    alone = [client.post(MESSAGES, case).json["content"] for case in cases]

    async def together() -> list[Reply]:
        asked = ({**case, "stream": i % 2 > 0} for i, case in enumerate(cases))
        return await asyncio.gather(*(client.apost(MESSAGES, body) for body in asked))

    found = [r.json if i % 2 == 0 else assembled(frames(r)) for i, r in enumerate(asyncio.run(together()))]
    assert [message["content"] for message in found] == alone


def test_texts_of_one_turn_are_one_message() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "4"}
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, result, {"type": "text", "text": "c"}]
    found = read_messages("messages", [{"role": "user", "content": content}, {"role": "user", "content": "d"}])
    assert [(message["role"], message["content"]) for message in found] == [
        ("user", "a\nb"), ("tool", "4"), ("user", "c\nd"),
    ]  # fmt: skip
