"""Ollama's protocol: what its clients find here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.chat import answer, chat_request
from llamaq.server import Settings, app
from llamaq.server.ollama.answering import Answering
from llamaq.serving.defaults import Defaults
from llamaq.structure import gbnf

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of Tom"}]
CHAT = {"model": "stories", "messages": HELLO, "options": {"num_predict": 8, "seed": 1}}
TEXT = {"model": "stories", "prompt": "Tell me of Tom", "options": {"num_predict": 8, "seed": 1}}
SAMPLING = SamplingParams(seed=1, top_p=0.9, min_p=0.0)
"""Ollama's defaults."""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}}


def lines(reply: Reply) -> list[Any]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.body.endswith(b"\n")
    return [json.loads(line) for line in reply.body.decode().splitlines()]


def joined(reply: Reply, key: str = "content") -> str:
    return "".join(line["message"].get(key, "") for line in lines(reply))


def error_of(reply: Reply) -> str:
    assert set(reply.json) == {"error"}
    text: str = reply.json["error"]
    return text


def test_a_chat_is_what_the_library_says(client: Client, model: LLM) -> None:
    done = model.chat(HELLO, template=TEMPLATE, max_tokens=8, sampling=SAMPLING)
    reply = client.post("/api/chat", {**CHAT, "stream": False})
    body = reply.json
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert body["message"] == {"role": "assistant", "content": done.text}
    assert (body["done"], body["done_reason"], body["model"]) == (True, "length", "stories")
    assert (body["prompt_eval_count"], body["eval_count"]) == (done.usage.prompt_tokens, 8)
    times = [body[f"{name}_duration"] for name in ("total", "load", "prompt_eval", "eval")]
    assert all(isinstance(each, int) and each >= 0 for each in times)
    assert times[0] >= times[2] + times[3]
    stream = client.post("/api/chat", CHAT)
    *pieces, last = lines(stream)
    assert joined(stream) == done.text
    assert [set(piece) for piece in pieces] == [{"model", "created_at", "message", "done"}] * len(pieces)
    assert set(last) == set(body)
    assert (last["done"], last["message"]["content"]) == (True, "")


def test_the_defaults_of_sampling_are_ollamas(client: Client, model: LLM) -> None:
    texts = [
        model.chat(HELLO, template=TEMPLATE, max_tokens=24, sampling=SamplingParams(seed=1, **settings)).text
        for settings in ({"top_p": 0.9, "min_p": 0.0}, {"min_p": 0.0}, {"top_p": 0.9})
    ]
    assert len(set(texts)) == 3
    body = client.post("/api/chat", {**CHAT, "options": {"seed": 1, "num_predict": 24}, "stream": False}).json
    assert body["message"]["content"] == texts[0]


def test_what_the_models_owner_has_set_comes_before_them(
    client: Client, model: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SamplingParams(seed=7, top_p=0.4, temperature=0.5)
    monkeypatch.setattr(model.model, "defaults", Defaults(sampling=own))
    expected = model.chat(HELLO, template=TEMPLATE, max_tokens=24, sampling=replace(own, min_p=0.0, temperature=1.1))
    reply = client.post("/api/chat", {**CHAT, "options": {"temperature": 1.1, "num_predict": 24}, "stream": False})
    assert (reply.json["message"]["content"], reply.headers["x-llamaq-seed"]) == (expected.text, "7")


def test_a_text_goes_through_the_template_or_is_raw(client: Client, model: LLM) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT["prompt"]}]
    done = model.chat(messages, template=TEMPLATE, max_tokens=8, sampling=SAMPLING)
    body = client.post("/api/generate", {**TEXT, "system": "Be brief.", "stream": False}).json
    assert (body["response"], body["done_reason"]) == (done.text, "length")
    stream = lines(client.post("/api/generate", {**TEXT, "system": "Be brief."}))
    assert "".join(line["response"] for line in stream) == done.text
    assert stream[-1]["context"] == body["context"]
    raw = client.post("/api/generate", {**TEXT, "raw": True, "stream": False}).json
    assert raw["response"] == model.generate("Tell me of Tom", max_tokens=8, sampling=SAMPLING).text
    assert "context" not in raw
    assert "without system" in error_of(client.post("/api/generate", {**TEXT, "raw": True, "system": "x"}))


def test_without_a_template_a_text_is_raw(model: LLM) -> None:
    client = Client(app(model, Settings(names=("stories",))))
    body = client.post("/api/generate", {**TEXT, "stream": False}).json
    assert body["response"] == model.generate("Tell me of Tom", max_tokens=8, sampling=SAMPLING).text
    assert "no chat template" in error_of(client.post("/api/chat", CHAT))


def test_a_context_is_taken_up(client: Client, model: LLM) -> None:
    first = client.post("/api/generate", {**TEXT, "stream": False}).json
    ids = chat_request(
        model.metadata, model.tokenizer, [{"role": "user", "content": "And then?"}], template=TEMPLATE
    ).ids
    asked = {**TEXT, "prompt": "And then?", "context": first["context"], "stream": False}
    body = client.post("/api/generate", asked).json
    done = model.generate([*first["context"], *ids[1:]], max_tokens=8, sampling=SAMPLING)
    assert body["response"] == done.text
    assert body["context"] == [*first["context"], *ids[1:], *done.tokens]
    assert "token ids are" in error_of(client.post("/api/generate", {**asked, "context": [99999]}))


def test_logprobs(client: Client, model: LLM) -> None:
    sampling = SamplingParams(seed=1, top_p=0.9, min_p=0.0, logprobs=2)
    events = list(model.chat(HELLO, template=TEMPLATE, max_tokens=8, sampling=sampling, stream=True))
    expected = [event.logprob for event in events if event.token is not None]
    asked = {**CHAT, "logprobs": True, "top_logprobs": 2}
    found = client.post("/api/chat", {**asked, "stream": False}).json["logprobs"]
    assert [entry["logprob"] for entry in found] == expected
    assert {len(entry["top_logprobs"]) for entry in found} == {2}
    assert set(found[0]) == {"token", "bytes", "logprob", "top_logprobs"}
    assert [entry for line in lines(client.post("/api/chat", asked)) for entry in line.get("logprobs", [])] == found
    assert "top_logprobs" in error_of(client.post("/api/chat", {**asked, "top_logprobs": 21}))


def test_options_of_sampling_and_length(client: Client, model: LLM) -> None:
    def text(**options: Any) -> Any:
        return client.post("/api/chat", {**CHAT, "options": options, "stream": False}).json

    sampling = SamplingParams(seed=5, temperature=0.3, top_k=10, top_p=0.5, min_p=0.1, repeat_penalty=1.3)
    done = model.chat(HELLO, template=TEMPLATE, max_tokens=6, sampling=sampling)
    options = {"seed": 5, "temperature": 0.3, "top_k": 10, "top_p": 0.5, "min_p": 0.1, "repeat_penalty": 1.3}
    assert text(**options, num_predict=6)["message"]["content"] == done.text
    cut = text(temperature=0, num_predict=60, stop=["."])
    assert ("." in cut["message"]["content"], cut["done_reason"]) == (False, "stop")
    for unlimited in (0, -1, -2):
        whole = text(seed=1, num_predict=unlimited, ignore_eos=True)
        assert whole["prompt_eval_count"] + whole["eval_count"] == model.n_ctx + 1


def test_a_smaller_context_is_kept_to_and_a_larger_one_refused(client: Client, model: LLM) -> None:
    options = {"seed": 1, "ignore_eos": True}
    body = client.post("/api/chat", {**CHAT, "options": {**options, "num_ctx": 64}, "stream": False}).json
    assert (body["prompt_eval_count"] + body["eval_count"], body["done_reason"]) == (65, "length")
    for limit, made in ((100, 65 - body["prompt_eval_count"]), (3, 3)):
        both = {**options, "num_ctx": 64, "num_predict": limit}
        assert client.post("/api/chat", {**CHAT, "options": both, "stream": False}).json["eval_count"] == made
    same = client.post("/api/chat", {**CHAT, "options": {**options, "num_ctx": model.n_ctx}, "stream": False}).json
    assert same["prompt_eval_count"] + same["eval_count"] == model.n_ctx + 1
    larger = client.post("/api/chat", {**CHAT, "options": {"num_ctx": model.n_ctx + 1}})
    assert (larger.status, "-c" in error_of(larger)) == (400, True)
    short = client.post("/api/chat", {**CHAT, "options": {"num_ctx": 8}})
    assert (short.status, "num_ctx" in error_of(short)) == (400, True)


@pytest.mark.parametrize("num_ctx", [None, 64])
def test_what_is_too_long_is_refused_or_cut(client: Client, model: LLM, num_ctx: int | None) -> None:
    long = {**CHAT, "messages": [{"role": "user", "content": "word " * 400}], "stream": False}
    options = {"seed": 1, "num_predict": 8, **({} if num_ctx is None else {"num_ctx": num_ctx})}
    assert client.post("/api/chat", {**long, "options": options}).status == 400
    body = client.post("/api/chat", {**long, "options": options, "truncate": True}).json
    assert body["prompt_eval_count"] == (num_ctx or model.n_ctx) - 8
    if num_ctx is None:
        options |= {"num_predict": 300, "ignore_eos": True, "num_keep": 4}
        assert client.post("/api/chat", {**CHAT, "options": options, "stream": False, "shift": True}).json[
            "eval_count"
        ] == 300  # fmt: skip


YES = {"type": "object", "properties": {"yes": {"enum": [True]}}, "required": ["yes"]}


def test_formats(client: Client) -> None:
    long = {**CHAT, "options": {"seed": 1, "num_predict": 60}, "stream": False}
    assert json.loads(client.post("/api/chat", {**long, "format": YES}).json["message"]["content"]) == {"yes": True}
    assert client.post("/api/chat", {**CHAT, "format": "json", "stream": False}).json["message"]["content"][0] == "{"
    text = {**TEXT, "options": {"seed": 1, "num_predict": 60}, "stream": False, "format": YES}
    assert json.loads(client.post("/api/generate", text).json["response"]) == {"yes": True}
    plain = client.post("/api/chat", {**CHAT, "format": ""})
    assert joined(plain) == joined(client.post("/api/chat", CHAT))
    assert "format" in error_of(client.post("/api/chat", {**CHAT, "format": {"type": 3}}))


def scripted(client: Client, asked: dict[str, Any], grammar: str, path: str = "/api/chat") -> tuple[Any, Reply]:
    """Answers, plain and streamed, of a model that can only write what the grammar has."""
    with mock.patch.object(Answering, "_structure", return_value=gbnf(grammar)):
        plain = client.post(path, {**asked, "stream": False}).json
        return plain, client.post(path, asked)


CALL = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>'


def test_tool_calls_come_whole(client: Client) -> None:
    asked = {**CHAT, "tools": [TOOL], "options": {"seed": 1, "num_predict": 200}}
    body, stream = scripted(client, asked, f"root ::= {json.dumps(CALL * 2)}")
    calls = body["message"]["tool_calls"]
    functions = [call["function"] for call in calls]
    assert functions == [{"index": i, "name": "look", "arguments": {"at": "a"}} for i in range(2)]
    assert (body["done_reason"], body["message"]["content"]) == ("stop", "")
    told = [call for line in lines(stream) for call in line["message"].get("tool_calls", [])]
    assert [call["function"] for call in told] == functions
    assert lines(stream)[-1]["done_reason"] == "stop"
    assert joined(stream) == ""


def test_the_arguments_of_a_call_are_not_read_anew_with_each_token(client: Client) -> None:
    asked = {**CHAT, "tools": [TOOL], "options": {"seed": 1, "num_predict": 200}}
    long = CALL.replace('"a"', f'"{"a" * 60}"')
    read = mock.Mock(side_effect=answer._arguments)
    with mock.patch.object(answer, "_arguments", read):
        _, stream = scripted(client, asked, f"root ::= {json.dumps(long)}")
    calls = [call for line in lines(stream) for call in line["message"].get("tool_calls", [])]
    assert calls[0]["function"]["arguments"] == {"at": "a" * 60}
    assert lines(stream)[-1]["eval_count"] > 20 > read.call_count


def test_a_call_that_is_cut_off_is_text(client: Client) -> None:
    asked = {**CHAT, "tools": [TOOL], "options": {"seed": 1, "num_predict": 24}}
    body, stream = scripted(client, asked, f"root ::= {json.dumps(CALL)}")
    assert "tool_calls" not in body["message"]
    assert (joined(stream), body["done_reason"]) == (body["message"]["content"], "length")
    assert "look" in joined(stream)


def test_a_conversation_with_calls(client: Client, model: LLM) -> None:
    """Ollama's clients send neither ids nor types of calls."""
    template = (
        "{% for m in messages %}{{ m.role }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.id }}:"
        "{{ c.function.name }}({{ c.function.arguments|tojson }}){% endfor %}{% endif %}{{ m.tool_call_id }}"
        "{{ m.name }}={{ m.content }};{% endfor %}"
    )
    own = Client(app(model, Settings(names=("stories",), template=template)))
    call = {"function": {"name": "look", "arguments": {"at": "a"}}}
    messages = [
        {"role": "USER", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "1", "tool_name": "look"},
        {"role": "tool", "content": "2"},
    ]
    body = own.post("/api/chat", {"messages": messages, "_debug_render_only": True}).json
    assert body["_debug_info"]["rendered_template"] == (
        'user=x;assistantcall00000:look({"at": "a"})call00001:look({"at": "a"})=;toolcall00000look=1;toolcall00001=2;'
    )
    assert "does not support tools" in error_of(own.post("/api/chat", {**CHAT, "tools": [TOOL]}))
    images = [{"role": "user", "content": "x", "images": ["aGk="]}]
    assert "text only" in error_of(own.post("/api/chat", {"messages": images}))


def test_thinking(client: Client, model: LLM) -> None:
    asked = {**CHAT, "options": {"seed": 1, "num_predict": 60}}
    body, stream = scripted(client, asked, 'root ::= "<think>Hm.</think>Yes."')
    assert body["message"] == {"role": "assistant", "content": "Yes.", "thinking": "Hm."}
    assert (joined(stream), joined(stream, "thinking")) == ("Yes.", "Hm.")
    text, _ = scripted(client, {**TEXT, "options": asked["options"]}, 'root ::= "<think>Hm.</think>Y"', "/api/generate")
    assert (text["thinking"], text["response"]) == ("Hm.", "Y")
    assert "does not support thinking" in error_of(client.post("/api/chat", {**CHAT, "think": True}))
    assert client.post("/api/chat", {**CHAT, "think": False}).status == 200
    template = "{{ messages[0].content }} {{ enable_thinking }} {{ reasoning_effort }}:"
    own = Client(app(model, Settings(names=("stories",), template=template)))

    def prompt(**more: Any) -> str:
        body = own.post("/api/chat", {**CHAT, **more, "_debug_render_only": True}).json
        text: str = body["_debug_info"]["rendered_template"]
        return text

    assert prompt() == prompt(think=True) == "Be brief. True :"
    assert (prompt(think=False), prompt(think="high")) == ("Be brief. False :", "Be brief. True high:")
    assert own.post("/api/show", {"model": "stories"}).json["capabilities"] == ["completion", "thinking"]


@pytest.mark.parametrize("value", ["5 minutes", "m", "1d", True, [], "1e3"])
def test_times_that_are_none(client: Client, value: Any) -> None:
    assert "keep_alive" in error_of(client.post("/api/chat", {**CHAT, "keep_alive": value}))


def test_what_is_not_there_is_refused_with_a_sentence(client: Client) -> None:
    assert client.post("/api/pull", {"model": "llama3.2"}).status == 403
    for path in ("create", "push", "copy", "blobs/sha256:12"):
        reply = client.post(f"/api/{path}", {})
        assert (reply.status, "this server" in error_of(reply)) == (501, True)
    assert asyncio.run(client.asend("DELETE", "/api/delete", b"{}", {})).status == 501
    reply = client.post("/api/chat", {**CHAT, "model": "llama3.2"})
    assert (reply.status, "not found" in error_of(reply)) == (404, True)
    for found, status in ((client.get("/api/chat"), 405), (client.get("/api/nope"), 404)):
        assert (found.status, bool(error_of(found))) == (status, True)
    assert client.post("/api/chat", b"{").status == 400


def test_a_body_needs_no_type_unless_a_browser_sends_it(client: Client) -> None:
    body = json.dumps(CHAT).encode()

    def status(path: str = "/api/chat", **headers: str) -> int:
        return asyncio.run(client.asend("POST", path, body, headers)).status

    for curls in ({}, {"content_type": "application/x-www-form-urlencoded"}):
        assert status(**curls) == 200
        for browsers in ({"origin": "http://localhost:3000"}, {"sec_fetch_site": "same-site"}):
            assert status(**curls, **browsers) == 415
        assert status("/v1/chat/completions", **curls) == 415
    assert "Content-Type" in error_of(client.post("/api/chat", CHAT, content_type="text/plain"))


def test_who_comes_when_all_is_full(model: LLM) -> None:
    application = app(model, Settings(parallel=1, max_queue=0))
    client = Client(application)

    async def scenario() -> Reply:
        with application.state.service.admission.ticket():
            return await client.apost("/api/generate", {**TEXT, "raw": True})

    reply = asyncio.run(scenario())
    assert (reply.status, bool(error_of(reply)), "retry-after" in reply.headers) == (503, True, True)


def test_a_line_is_one_for_pythons_clients_too(client: Client) -> None:
    """They read lines by ``str.splitlines``, and the model may write any character."""
    odd = "a\x85b\u2028c\u2029é"
    asked = {**CHAT, "options": {"num_predict": 100}}
    body, stream = scripted(client, asked, f"root ::= {json.dumps(odd)}")
    assert body["message"]["content"] == odd
    pieces = [json.loads(line) for line in stream.body.decode().splitlines()]
    assert "".join(piece["message"]["content"] for piece in pieces) == odd


def test_an_error_in_the_middle_is_a_line(client: Client) -> None:
    with mock.patch.object(Answering, "_entries", side_effect=RuntimeError("broken")):
        *_, last = lines(client.post("/api/chat", CHAT))
    assert (set(last), "broken" in last["error"]) == ({"error"}, False)


def test_the_end_of_the_server_is_an_error_not_an_end(model: LLM) -> None:
    application = app(model, Settings(template=TEMPLATE, drain_seconds=0.0))
    client, service = Client(application), application.state.service

    async def scenario() -> Reply:
        endless = {**CHAT, "model": None, "options": {"ignore_eos": True}}
        run = asyncio.ensure_future(client.apost("/api/chat", endless))
        while not any(stream.usage.completion_tokens > 2 for stream in service.streams):
            await asyncio.sleep(0)
        await service.drain()
        return await run

    *_, last = lines(asyncio.run(scenario()))
    assert set(last) == {"error"}
