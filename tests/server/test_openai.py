"""What OpenAI's routes answer, beside what the library says."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app
from llamaq.server.openai import chat
from llamaq.serving.stream import Stream
from llamaq.structure import gbnf

CHAT = "/v1/chat/completions"
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of Tom"}]
SMALL = {"messages": HELLO, "max_tokens": 8, "seed": 1}


def joined(reply: Reply, key: str = "content", index: int = 0) -> str:
    """The text of a stream's deltas."""
    choices = [choice for frame in reply.frames for choice in frame["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get(key) or "" for choice in choices)


def test_a_chat_is_what_the_library_says(client: Client, model: LLM) -> None:
    reply = client.post(CHAT, SMALL)
    done = model.chat(HELLO, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=1))
    body = reply.json
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": done.text, "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    assert body["usage"]["prompt_tokens"] == done.usage.prompt_tokens
    assert body["usage"]["completion_tokens"] == 8
    assert body["usage"]["total_tokens"] == done.usage.prompt_tokens + 8
    assert (body["object"], body["model"]) == ("chat.completion", "stories")
    assert body["id"].startswith("chatcmpl-")


def test_a_stream_is_the_same_text_in_pieces(client: Client) -> None:
    whole = client.post(CHAT, SMALL).json
    reply = client.post(CHAT, {**SMALL, "stream": True, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"] == "text/event-stream"
    assert joined(reply) == whole["choices"][0]["message"]["content"]
    assert reply.body.endswith(b"data: [DONE]\n\n")
    first, *_, last, usage = reply.frames
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 8)
    assert usage["timings"]["predicted_n"] == 8
    assert len({(frame["id"], frame["created"]) for frame in reply.frames}) == 1
    assert {frame["object"] for frame in reply.frames} == {"chat.completion.chunk"}
    assert not any("usage" in frame for frame in client.post(CHAT, {**SMALL, "stream": True}).frames)


def test_several_answers_have_the_seeds_after_the_first(client: Client) -> None:
    asked = {**SMALL, "n": 3}
    body = client.post(CHAT, asked).json
    alone = [client.post(CHAT, {**SMALL, "seed": 1 + i}).json["choices"][0]["message"]["content"] for i in range(3)]
    assert [choice["message"]["content"] for choice in body["choices"]] == alone
    once = client.post(CHAT, SMALL).json["usage"]["prompt_tokens"]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (once, 24)
    stream = client.post(CHAT, {**asked, "stream": True})
    assert [joined(stream, index=i) for i in range(3)] == alone


def test_a_drawn_seed_is_told_and_gives_the_answer_again(client: Client) -> None:
    first = client.post(CHAT, {"messages": HELLO, "max_tokens": 8})
    again = client.post(CHAT, {**SMALL, "seed": int(first.headers["x-llamaq-seed"])})
    assert again.json["choices"] == first.json["choices"]


@pytest.mark.parametrize("captured", ["chat", "compl"])
def test_the_keys_are_those_of_a_captured_answer(client: Client, shared: Callable[[str], Path], captured: str) -> None:
    text = shared(f"prototypes/server/raw/{captured}.txt").read_text()
    theirs = json.loads(text.replace("\r", "").partition("\n\n")[2])
    logprobs: dict[str, Any] = {"logprobs": True, "top_logprobs": 2} if captured == "chat" else {"logprobs": 2}
    asked = SMALL if captured == "chat" else {"prompt": "Once", "max_tokens": 4}
    ours = client.post(CHAT if captured == "chat" else "/v1/completions", {**asked, **logprobs}).json
    assert shape(theirs) - shape(ours) == set()
    timings = ours["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == ours["usage"]["prompt_tokens"]
    assert (timings["predicted_n"], bool(timings["why"])) == (ours["usage"]["completion_tokens"], True)


def shape(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The paths of all keys."""
    if isinstance(value, dict):
        return {(*path, key) for key in value}.union(*(shape(item, (*path, key)) for key, item in value.items()))
    return set().union(*(shape(item, (*path, "[]")) for item in value)) if isinstance(value, list) else set()


def test_log_probabilities_are_the_librarys(client: Client, model: LLM) -> None:
    asked = {**SMALL, "logprobs": True, "top_logprobs": 2}
    entries = client.post(CHAT, asked).json["choices"][0]["logprobs"]["content"]
    events = model.chat(
        HELLO, template=TEMPLATE, max_tokens=8, sampling=SamplingParams(seed=1, logprobs=2), stream=True
    )
    expected = [(event.token, event.logprob, event.top_logprobs) for event in events if event.token is not None]
    assert [
        (e["id"], e["logprob"], tuple((top["id"], top["logprob"]) for top in e["top_logprobs"])) for e in entries
    ] == expected
    assert all(bytes(entry["bytes"]).decode("utf-8", "replace") == entry["token"] for entry in entries)
    stream = client.post(CHAT, {**asked, "stream": True})
    parts = [choice["logprobs"]["content"] for f in stream.frames for choice in f["choices"] if choice["logprobs"]]
    assert [entry for part in parts for entry in part] == entries


def test_a_completion_with_the_classic_lists(client: Client, model: LLM) -> None:
    prompts = ["Once upon", "Tom saw"]
    asked = {"prompt": prompts, "max_tokens": 6, "seed": 3, "logprobs": 2, "n": 2}
    body = client.post("/v1/completions", asked).json
    for i, choice in enumerate(body["choices"]):
        sampling = SamplingParams(seed=3 + i % 2, logprobs=2)
        done = model.generate(prompts[i // 2], max_tokens=6, sampling=sampling)
        lists = choice["logprobs"]
        assert (choice["index"], choice["text"], choice["finish_reason"]) == (i, done.text, "length")
        assert lists["token_logprobs"] == [event.logprob for event in done.events if event.token is not None]
        assert "".join(lists["tokens"]) == done.text
        assert [done.text[at:].startswith(t) for at, t in zip(lists["text_offset"], lists["tokens"], strict=True)] == [
            True
        ] * 6
        assert [entry["token"] for entry in lists["content"]] == lists["tokens"]
    assert body["usage"]["completion_tokens"] == 24
    stream = client.post("/v1/completions", {**asked, "stream": True})
    for i, choice in enumerate(body["choices"]):
        parts = [c for frame in stream.frames for c in frame["choices"] if c["index"] == i]
        assert "".join(part["text"] for part in parts) == choice["text"]
        offsets = [at for part in parts if part["logprobs"] for at in part["logprobs"]["text_offset"]]
        assert offsets == choice["logprobs"]["text_offset"]


def test_echo_stop_and_prompts_of_tokens(client: Client, model: LLM) -> None:
    ids = model.prompt_ids("Once upon a time")
    asked = {"prompt": ids, "max_tokens": 30, "temperature": 0, "echo": True, "stop": [" there", "\n"]}
    choice = client.post("/v1/completions", asked).json["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Once upon a time,", "stop")
    stream = client.post("/v1/completions", {**asked, "stream": True})
    assert "".join(c["text"] for frame in stream.frames for c in frame["choices"]) == "Once upon a time,"
    assert client.post("/v1/completions", {"max_tokens": 3, "seed": 1}).status == 200  # the prompt is BOS alone


@pytest.mark.parametrize("max_tokens", [0, 2])
def test_a_prompt_is_scored(client: Client, model: LLM, max_tokens: int) -> None:
    """As lm-eval asks for multiple choices."""
    ids = model.prompt_ids("Once upon a time there was")
    texts = ["Tom saw a dog", ""]  # the second is BOS alone, which shows no text
    asked = {"prompt": [ids, *texts], "max_tokens": max_tokens, "echo": True, "logprobs": 2, "temperature": 0}
    body = client.post("/v1/completions", asked).json
    for choice, prompt in zip(body["choices"], (ids, *map(model.prompt_ids, texts)), strict=True):
        lists, score = choice["logprobs"], model.score(prompt, top_logprobs=2)
        assert lists["token_logprobs"][: len(prompt)] == [None, *score.logprobs.tolist()]
        assert {len(values) for name, values in lists.items() if name != "content"} == {len(prompt) + max_tokens}
        names = [{client_text(model, id): logprob for id, logprob in top} for top in score.top_logprobs]
        assert lists["top_logprobs"][: len(prompt)] == [None, *names]
        shown = [choice["text"][at:].startswith(t) for at, t in zip(lists["text_offset"], lists["tokens"], strict=True)]
        assert shown[2:] == [True] * (len(shown) - 2)  # BOS comes first, and the space that SentencePiece adds
    stream = client.post("/v1/completions", {**asked, "stream": True})
    for i, choice in enumerate(body["choices"]):
        parts = [c for frame in stream.frames for c in frame["choices"] if c["index"] == i]
        assert "".join(part["text"] for part in parts) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [x for part in parts if part["logprobs"] for x in part["logprobs"][name]] == values


def client_text(model: LLM, id: int) -> str:
    return model.tokenizer.token_bytes(id, special=True).decode("utf-8", "replace")


YES = {"type": "object", "properties": {"yes": {"enum": [True, 1]}}, "required": ["yes"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": YES}}},
        {"response_format": {"type": "json_object", "schema": YES}},
        {"json_schema": YES},
        {"grammar": 'root ::= "{\\"yes\\":" ("true" | "1") "}"'},
    ],
)
def test_a_structure_is_kept(client: Client, asked: dict[str, Any]) -> None:
    choice = client.post(CHAT, {**SMALL, "max_tokens": 60, **asked}).json["choices"][0]
    assert json.loads(choice["message"]["content"]) in ({"yes": True}, {"yes": 1})
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("asked", [{"response_format": {"type": "json_object"}}, {"json_schema": {}}])
def test_any_object(client: Client, asked: dict[str, Any]) -> None:
    reply = client.post(CHAT, {**SMALL, **asked})
    assert reply.json["choices"][0]["message"]["content"].startswith("{")


def test_a_biased_token_comes(client: Client, model: LLM) -> None:
    (token,) = {id for id in model.tokenize("!") if model.detokenize([id]).strip() == "!"}
    asked = {"prompt": "Tom", "max_tokens": 3, "temperature": 0, "logit_bias": {str(token): 100}}
    assert client.post("/v1/completions", asked).json["choices"][0]["text"] == "!!!"


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}}
CALLS = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>' * 2


@pytest.mark.parametrize(("parallel", "count"), [(True, 2), (False, 1)])
def test_tool_calls(client: Client, parallel: bool, count: int) -> None:
    grammar = f"root ::= {json.dumps(CALLS)}"
    asked = {**SMALL, "max_tokens": 200, "tools": [TOOL], "parallel_tool_calls": parallel}
    replies = scripted(client, asked, grammar)
    (choice,) = replies[0].json["choices"]
    calls = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert [(c["type"], c["function"]) for c in calls] == [
        ("function", {"name": "look", "arguments": '{"at":"a"}'})
    ] * count
    deltas = [d for f in replies[1].frames for c in f["choices"] for d in c["delta"].get("tool_calls", [])]
    assert [(d["id"][:5], d["function"]["name"]) for d in deltas if "id" in d] == [("call_", "look")] * count
    for index in range(count):
        text = "".join(d["function"]["arguments"] for d in deltas if d["index"] == index)
        assert json.loads(text) == {"at": "a"}
    assert replies[1].frames[-1]["choices"][0]["finish_reason"] == "tool_calls"


PICK = {
    "type": "function",
    "function": {
        "name": "pick",
        "parameters": {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]},
    },
}


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "pick"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "name": "pick"}]},
        },
    ],
)
def test_a_call_that_must_come(model: LLM, choice: Any) -> None:
    client = Client(app(model, Settings(template="{{ '<tool_call> ' if tools }}{{ messages[-1].content }}:")))
    tools = [PICK] if choice == "required" else [{"type": "function", "function": {"name": "o"}}, PICK]
    asked = {"messages": HELLO[1:], "tools": tools, "tool_choice": choice, "parallel_tool_calls": False}
    for seed in range(3):
        (choice,) = client.post(CHAT, {**asked, "seed": seed}).json["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])["n"]) in (("pick", 1), ("pick", 2))
    frames = client.post(CHAT, {**asked, "seed": 2, "stream": True}).frames
    deltas = [d for f in frames for c in f["choices"] for d in c["delta"].get("tool_calls", [])]
    text = "".join(d["function"]["arguments"] for d in deltas)
    assert json.loads(text) == json.loads(call["function"]["arguments"])


def test_what_comes_after_the_only_call_is_not_made(model: LLM) -> None:
    """But for what the model runs ahead of who reads."""
    client = Client(app(model, Settings(template="{{ '<tool_call>' if tools }}:")))
    asked = {"messages": HELLO, "tools": [TOOL], "parallel_tool_calls": False, "seed": 1}
    made: list[int] = []

    def keep(stream: Stream) -> None:
        cancel(stream)
        made.append(stream._request.made)

    cancel = Stream.cancel
    grammar = gbnf(f"root ::= {json.dumps(CALLS)} [ab]{{100}}")
    with mock.patch.object(chat, "structure_of", return_value=grammar), mock.patch.object(Stream, "cancel", keep):
        body = client.post(CHAT, asked).json
    read = body["usage"]["completion_tokens"]
    assert len(body["choices"][0]["message"]["tool_calls"]) == 1
    assert read <= max(made) < 150  # 200 were wanted


def test_tools_that_are_not_to_be_called_are_not_shown(client: Client) -> None:
    plain = client.post(CHAT, SMALL).json
    none = client.post(CHAT, {**SMALL, "tools": [TOOL], "tool_choice": "none"}).json
    assert (none["choices"], none["usage"]["prompt_tokens"]) == (plain["choices"], plain["usage"]["prompt_tokens"])


def test_a_call_or_a_structured_answer(client: Client) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": YES}}
    asked = {**SMALL, "max_tokens": 90, "tools": [PICK], "response_format": format}
    for seed in range(4):
        (choice,) = client.post(CHAT, {**asked, "seed": seed}).json["choices"]
        if choice["finish_reason"] == "stop":
            assert json.loads(choice["message"]["content"])["yes"] in (True, 1)
        else:
            assert choice["message"]["tool_calls"][0]["function"]["name"] == "pick"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "other"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice"),
        ({"tools": [TOOL], "grammar": "root ::= [a]"}, "grammar"),
        ({"tools": [{**TOOL, "function": {"name": "a b"}}], "tool_choice": "required"}, "tools"),
    ],
)
def test_calls_that_cannot_be_asked_for(client: Client, asked: dict[str, Any], param: str) -> None:
    reply = client.post(CHAT, {**SMALL, **asked})
    assert (reply.status, reply.error["param"]) == (400, param)


def test_a_prompts_tokens_are_counted(client: Client) -> None:
    count = client.post(f"{CHAT}/input_tokens", {"messages": HELLO}).json
    assert count == {
        "object": "response.input_tokens",
        "input_tokens": client.post(CHAT, SMALL).json["usage"]["prompt_tokens"],
    }
    assert (
        client.post(f"{CHAT}/input_tokens", {"messages": HELLO, "tools": [TOOL]}).json["input_tokens"]
        > count["input_tokens"]
    )


def scripted(client: Client, asked: dict[str, Any], grammar: str) -> list[Reply]:
    """Answers, plain and streamed, of a model that can only write what the grammar has."""
    with mock.patch.object(chat, "structure_of", return_value=gbnf(grammar)):
        return [client.post(CHAT, asked), client.post(CHAT, {**asked, "stream": True})]


def test_reasoning_comes_apart(client: Client) -> None:
    replies = scripted(client, SMALL | {"max_tokens": 60}, 'root ::= "<think>Hm.</think>Yes."')
    message = replies[0].json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes.")
    assert (joined(replies[1], "reasoning_content"), joined(replies[1])) == ("Hm.", "Yes.")
    details = replies[0].json["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] < replies[0].json["usage"]["completion_tokens"]


def test_a_prediction_changes_the_counts_alone(client: Client) -> None:
    asked = {"messages": HELLO, "temperature": 0, "max_tokens": 24}
    want = client.post(CHAT, asked).json
    text = want["choices"][0]["message"]["content"]
    for content in (text, [{"type": "text", "text": text}]):
        done = client.post(CHAT, {**asked, "prediction": {"type": "content", "content": content}}).json
        assert done["choices"] == want["choices"]
        details = done["usage"]["completion_tokens_details"]
        timings = done["timings"]
        assert details["accepted_prediction_tokens"] == timings["draft_n_accepted"] > 5
        assert details["rejected_prediction_tokens"] == timings["draft_n"] - timings["draft_n_accepted"]
    for bad in ({"type": "content"}, {"type": "other", "content": ""}, {"type": "content", "content": [1]}, "text"):
        assert client.post(CHAT, {**asked, "prediction": bad}).json["error"]["param"] == "prediction"


def test_embeddings(client: Client, model: LLM) -> None:
    texts = ["Tom saw a dog", "One day"]
    expected = model.embed(texts)
    body = client.post("/v1/embeddings", {"input": texts}).json
    assert np.array_equal(np.array([entry["embedding"] for entry in body["data"]], np.float32), expected)
    count = sum(len(model.prompt_ids(text)) for text in texts)
    assert body["usage"] == {"prompt_tokens": count, "total_tokens": count}
    coded = client.post("/v1/embeddings", {"input": texts[0], "encoding_format": "base64"}).json["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), expected[0])
    short = client.post("/v1/embeddings", {"input": texts[0], "dimensions": 8}).json["data"][0]["embedding"]
    np.testing.assert_allclose(short, expected[0, :8] / np.linalg.norm(expected[0, :8]), rtol=1e-6)
    tokens = client.post("/v1/embeddings", {"input": [model.prompt_ids(text) for text in texts]}).json
    assert tokens["data"] == body["data"]


def test_models_and_health(client: Client) -> None:
    listed = client.get("/v1/models").json
    assert [entry["id"] for entry in listed["data"]] == ["stories", "other"]
    meta = listed["data"][0]["meta"]
    assert (meta["n_vocab"], meta["n_ctx"], meta["n_params"], meta["ftype"]) == (512, 256, 260032, "Q8_0")
    assert client.get("/v1/models/other").json == listed["data"][1]
    assert client.get("/v1/models/gpt-4").error["code"] == "model_not_found"
    assert client.get("/health").json == {"status": "ok"}


def test_metrics(client: Client) -> None:
    client.post("/v1/completions", {"prompt": "Once", "max_tokens": 5})
    page = client.get("/metrics").body.decode()
    found = dict(re.findall(r"^(llamaq_\S+) (\S+)$", page, re.MULTILINE))
    assert float(found['llamaq_requests_total{route="/v1/completions",status="200"}']) >= 1
    assert float(found["llamaq_generated_tokens_total"]) >= 5
    assert float(found["llamaq_time_to_first_token_seconds_count"]) >= 1
    assert found["llamaq_answers_running"] == "0.0"
