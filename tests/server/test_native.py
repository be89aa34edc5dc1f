"""llama-server's own routes: what clients of them find here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.chat import chat_request
from llamaq.llm.infill import infill_ids
from llamaq.server import Settings, app
from tiny_encoders import tiny_encoder

KEYS: dict[str, list[str]] = json.loads((Path(__file__).parents[1] / "data" / "llama_server_keys.json").read_text())
"""The paths of all keys in answers of llama-server (October 2026)."""
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {}}}}}
SMALL = {"prompt": "Once upon a time", "n_predict": 8, "seed": 1}


def shape(value: Any, path: str = "") -> set[str]:
    """The paths of all keys."""
    if isinstance(value, dict):
        return {path + key for key in value}.union(*(shape(item, f"{path}{key}/") for key, item in value.items()))
    return set().union(*(shape(item, f"{path}[]/") for item in value)) if isinstance(value, list) else set()


@pytest.fixture(scope="module")
def open_client(model: LLM) -> Client:
    return Client(app(model, Settings(names=("stories",), template=TEMPLATE, metrics=True, slots=True)))


@pytest.mark.parametrize(
    ("captured", "path", "asked", "missing"),
    [
        ("native", "/completion", {"prompt": "Once", "n_predict": 4, "n_probs": 2, "return_tokens": True}, set()),
        ("tokenize", "/tokenize", {"content": "Hello world", "add_special": True, "with_pieces": True}, set()),
        ("detok", "/detokenize", {"tokens": [300, 301]}, set()),
        ("tmpl", "/apply-template", {"messages": HELLO}, set()),
        ("too_long", "/completion", {"prompt": "word " * 400}, set()),
        ("infill", "/infill", {"input_prefix": "a", "input_suffix": "b"}, set()),
        ("rerank", "/v1/rerank", {"query": "x", "documents": ["a"]}, set()),
        ("notfound", "/nope", {}, set()),
        # There are no images to mark, and the page's settings are its own.
        ("props", "/props", None, {"media_marker", "ui_settings"}),
        ("slots", "/slots", None, set()),
    ],
)
def test_the_keys_are_those_of_a_captured_answer(
    open_client: Client, captured: str, path: str, asked: Any, missing: set[str]
) -> None:
    reply = open_client.get(path) if asked is None else open_client.post(path, asked)
    assert set(KEYS[captured]) - shape(reply.json) == missing


def test_a_stream_has_the_captured_keys(open_client: Client) -> None:
    reply = open_client.post("/completion", {**SMALL, "stream": True, "return_progress": True})
    assert set(KEYS["native_stream"]) - shape(reply.frames) == set()
    assert "[DONE]" not in reply.events
    told = [frame["prompt_progress"] for frame in reply.frames if "prompt_progress" in frame]
    assert told[-1]["processed"] == told[-1]["total"] == reply.frames[-1]["tokens_evaluated"]


def test_a_client_that_hangs_up_while_a_prompt_is_read_leaves_nothing(open_client: Client) -> None:
    asked = {**SMALL, "n_predict": 200, "stream": True, "return_progress": True}

    async def scenario() -> set[Any]:
        before, gone = asyncio.all_tasks(), asyncio.Event()
        await open_client.asend(
            "POST", "/completion", json.dumps(asked).encode(), {"content-type": "application/json"},
            hang_up=gone, on_send=lambda reply: gone.set() if b"content" in reply.body else None,
        )  # fmt: skip
        for _ in range(3):  # those that are cancelled end with the loop's next turns
            await asyncio.sleep(0)
        return asyncio.all_tasks() - before

    assert asyncio.run(scenario()) == set()


def test_a_completion_is_what_the_library_says(client: Client, model: LLM) -> None:
    done = model.generate("Once upon a time", max_tokens=8, sampling=SamplingParams(seed=1, logprobs=2))
    body = client.post("/completion", {**SMALL, "n_probs": 2, "return_tokens": True}).json
    assert (body["content"], body["tokens"], body["stop_type"]) == (done.text, list(done.tokens), "limit")
    assert (body["tokens_predicted"], body["tokens_evaluated"]) == (8, done.usage.prompt_tokens)
    assert [entry["logprob"] for entry in body["completion_probabilities"]] == [e.logprob for e in done.events[:8]]
    assert body["generation_settings"]["n_predict"] == body["generation_settings"]["max_tokens"] == 8
    reply = client.post("/completions", {**SMALL, "n_probs": 2, "stream": True})
    *pieces, last = reply.frames
    assert "".join(piece["content"] for piece in pieces) == done.text
    assert [id for piece in pieces for id in piece["tokens"]] == list(done.tokens)
    assert [entry for piece in pieces for entry in piece["completion_probabilities"]] == body[
        "completion_probabilities"
    ]
    assert [piece["stop"] for piece in pieces] == [False] * len(pieces)
    assert (last["stop"], last["content"], last["tokens_predicted"]) == (True, "", 8)


def test_what_ended_an_answer(client: Client, model: LLM) -> None:
    asked = {"prompt": "Once upon a time", "temperature": 0, "n_predict": 30}
    body = client.post("/completion", {**asked, "stop": ["\n", " there"]}).json
    assert (body["content"], body["stop_type"], body["stopping_word"]) == (",", "word", " there")
    last = client.post("/completion", {**asked, "stop": ["\n", " there"], "stream": True}).frames[-1]
    assert (last["stop_type"], last["stopping_word"]) == ("word", " there")
    end = {"grammar": 'root ::= "x"'}
    assert client.post("/completion", {**asked, **end}).json["stop_type"] == "eos"
    cut = client.post("/completion", {**asked, "n_predict": -1, "ignore_eos": True}).json
    assert (cut["stop_type"], cut["truncated"], cut["tokens_evaluated"] + cut["tokens_predicted"]) == (
        "limit",
        True,
        model.n_ctx + 1,
    )


def test_prompts_of_texts_and_tokens(client: Client, model: LLM) -> None:
    """One list may be one prompt or several; all are answered as each alone."""
    ids = model.prompt_ids("Once upon")
    mixed = [*ids, " a", 300]
    prompts: list[Any] = ["Once upon", ids, mixed, {"prompt_string": "Tom"}]
    bodies = client.post("/completion", {**SMALL, "prompt": prompts}).json
    alone = [client.post("/completion", {**SMALL, "prompt": prompt}).json for prompt in prompts]
    assert [body["content"] for body in bodies] == [body["content"] for body in alone]
    assert [body["index"] for body in bodies] == [0, 1, 2, 3]
    assert bodies[0]["content"] == bodies[1]["content"]
    assert alone[2]["prompt"].endswith("Once upon a" + model.tokenizer.decode([300], continuation=True))
    begun = client.post("/completion", {**SMALL, "prompt": [ids[0], "Once upon"]}).json
    assert begun["content"] == bodies[0]["content"]
    two = client.post("/completion", {**SMALL, "n_cmpl": 2}).json
    assert [b["generation_settings"]["seed"] for b in two] == [1, 2]


def test_the_fields_that_are_wanted(client: Client) -> None:
    asked = {**SMALL, "response_fields": ["content", "generation_settings/n_predict", "no/such"]}
    found = client.post("/completion", asked).json
    assert set(found) == {"content", "generation_settings/n_predict"}
    assert found["generation_settings/n_predict"] == 8
    last = client.post("/completion", {**asked, "stream": True}).frames[-1]
    assert last == {**found, "content": ""}


def test_biases_of_tokens_and_texts(client: Client, model: LLM) -> None:
    (mark,) = {id for id in model.tokenize("!") if model.detokenize([id]).strip() == "!"}
    asked = {"prompt": "Tom", "n_predict": 3, "temperature": 0}
    body = client.post("/completion", {**asked, "logit_bias": [[mark, 100]]}).json
    assert body["content"] == "!!!"
    assert body["generation_settings"]["logit_bias"] == [{"token": mark, "bias": 100.0}]
    first = client.post("/completion", {**asked, "return_tokens": True}).json["tokens"][0]
    other = client.post("/completion", {**asked, "logit_bias": [[first, False]], "return_tokens": True}).json
    assert first not in other["tokens"]


def test_structures(client: Client) -> None:
    schema = {"type": "object", "properties": {"yes": {"enum": [True]}}, "required": ["yes"]}
    body = client.post("/completion", {**SMALL, "n_predict": 60, "json_schema": schema}).json
    assert json.loads(body["content"]) == {"yes": True}
    assert client.post("/completion", {**SMALL, "json_schema": {}}).json["content"].startswith("{")


def test_timings_with_each_token(client: Client) -> None:
    frames = client.post("/completion", {**SMALL, "stream": True, "timings_per_token": True}).frames
    counts = [frame["timings"]["predicted_n"] for frame in frames]
    assert counts == sorted(counts)
    assert counts[-1] == 8


def test_tokens_there_and_back(client: Client, model: LLM) -> None:
    text = "Tom saw ❤ a </s> dog"
    ids = client.post("/tokenize", {"content": text}).json["tokens"]
    assert ids == model.tokenize(text)
    assert client.post("/tokenize", {"content": text, "add_special": True}).json["tokens"] == model.prompt_ids(text)
    plain = client.post("/tokenize", {"content": text, "parse_special": False}).json["tokens"]
    assert plain == model.tokenize(text, parse_special=False)
    assert client.post("/detokenize", {"tokens": plain}).json == {"content": text}
    pieces = client.post("/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
    raw = [p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces]
    assert raw == [model.tokenizer.token_bytes(id, special=True) for id in ids]
    assert client.post("/detokenize", {"tokens": [99999]}).error["param"] == "tokens"


def test_the_prompt_of_a_chat(client: Client, model: LLM) -> None:
    def of(messages: Any, **more: Any) -> str:
        return chat_request(model.metadata, model.tokenizer, messages, template=TEMPLATE, **more).prompt

    assert client.post("/apply-template", {"messages": HELLO}).json == {"prompt": of(HELLO)}
    begun = [*HELLO, {"role": "assistant", "content": "Hel"}]
    assert client.post("/apply-template", {"messages": begun, "stream": True}).json == {"prompt": of(begun)}
    asked = {"messages": HELLO, "tools": [TOOL], "temperature": 0}
    assert client.post("/apply-template", asked).json == {"prompt": of(HELLO, tools=[TOOL])}
    assert client.post("/apply-template", {}).error["param"] == "messages"


def test_vectors(client: Client, model: LLM) -> None:
    texts = ["Tom saw a dog", "One day"]
    found = client.post("/embedding", {"content": texts}).json
    assert [each["index"] for each in found] == [0, 1]
    vectors = np.array([each["embedding"] for each in found])[:, 0]
    assert np.array_equal(vectors.astype(np.float32), model.embed(texts))
    as_they_are = client.post("/embeddings", {"input": texts[0], "embd_normalize": -1}).json[0]["embedding"][0]
    assert np.array_equal(np.array(as_they_are, np.float32), model.embed(texts[0], normalize=False)[0])
    for norm, length in ((0, np.inf), (1, 1), (3, 3)):
        vector = np.array(client.post("/embedding", {"content": "Tom", "embd_normalize": norm}).json[0]["embedding"])
        assert np.linalg.norm(vector[0], length) == pytest.approx(32760 if norm == 0 else 1)


def test_ranking() -> None:
    path, _, _ = tiny_encoder("bert-rank")
    with LLM.load(path, threads=1) as ranker:
        client = Client(app(ranker, Settings(metrics=True)))
        documents = ["a dog", "the", "cat."]
        scores = ranker.rerank("dog", documents).tolist()
        best = sorted(range(3), key=lambda i: -scores[i])
        asked = {"query": "dog", "documents": documents}
        for route in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"):
            body = client.post(route, asked).json
            assert body["results"] == [{"index": i, "relevance_score": scores[i]} for i in best]
        count = sum(len(ranker.tokenizer.encode_pair("dog", document)) for document in documents)
        assert (body["object"], body["usage"]) == ("list", {"prompt_tokens": count, "total_tokens": count})
        assert client.post("/rerank", {**asked, "top_n": 1}).json["results"] == body["results"][:1]
        tei = client.post("/rerank", {"query": "dog", "texts": documents, "return_text": True}).json
        assert tei == [{"index": i, "score": scores[i], "text": documents[i]} for i in best]
        assert client.post("/rerank", {"query": "dog", "documents": ["a " * 100]}).error["n_ctx"] == ranker.n_ctx
        assert client.post("/completion", SMALL).status == 400


def test_what_this_model_cannot_do_is_501(client: Client) -> None:
    for path, body in (
        ("/rerank", {"query": "x", "documents": ["a"]}),
        ("/infill", {"input_prefix": "a"}),
        ("/props", {}),
        ("/slots/0", {}),
    ):
        reply = client.post(path, body)
        assert (reply.status, reply.error["type"]) == (501, "not_supported_error")
    assert (client.get("/slots").status, client.get("/lora-adapters").json) == (501, [])


def test_filling_in(model: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """With marks that this vocabulary does not have."""
    marks = dict(zip(("fim_pre", "fim_suf", "fim_mid", "fim_rep", "fim_sep"), range(300, 305), strict=True))
    for name, id in marks.items():
        monkeypatch.setitem(vars(model.tokenizer.special), name, id)
    client = Client(app(model, Settings()))
    ids = infill_ids(model.tokenizer, "def f", "return x")
    asked = {"input_prefix": "def ", "prompt": "f", "input_suffix": "return x", "n_predict": 5, "seed": 1}
    body = client.post("/infill", asked).json
    done = model.generate(ids, max_tokens=5, sampling=SamplingParams(seed=1))
    assert (body["content"], body["tokens_evaluated"]) == (done.text, len(ids))
    extra = {"input_extra": [{"filename": "a.py", "text": "x = 1"}, {"filename": "b.py", "text": "y " * 1000}]}
    longer = client.post("/infill", {**asked, **extra}).json
    assert longer["tokens_evaluated"] == model.n_ctx - 5
    few = client.post("/infill", {**asked, "input_extra": extra["input_extra"][:1]}).json["prompt"]
    assert few.index("a.py") < few.index("x = 1") < few.index("def f")


def test_props_and_slots(open_client: Client, model: LLM) -> None:
    props = open_client.get("/props").json
    assert (props["model_alias"], props["total_slots"], props["chat_template"]) == ("stories", 4, TEMPLATE)
    assert (props["endpoint_slots"], props["endpoint_metrics"], props["model_ftype"]) == (True, True, "Q8_0")
    assert props["default_generation_settings"]["n_ctx"] == model.n_ctx
    assert "/" not in props["model_path"]
    caps = props["chat_template_caps"]
    assert (caps["supports_tools"], caps["supports_system_role"], caps["supports_reasoning_effort"]) == (
        True,
        True,
        False,
    )
    assert [slot["is_processing"] for slot in open_client.get("/slots").json] == [False] * 4


def test_slots_tell_what_runs(model: LLM) -> None:
    application = app(model, Settings(parallel=1, slots=True))
    client = Client(application)
    service = application.state.service

    async def scenario() -> tuple[Reply, Reply]:
        gone = asyncio.Event()
        body = json.dumps({**SMALL, "n_predict": -1, "ignore_eos": True}).encode()
        headers = {"content-type": "application/json"}
        call = asyncio.ensure_future(client.asend("POST", "/completion", body, headers, hang_up=gone))
        while not service.streams:
            await asyncio.sleep(0)
        slots = await client.asend("GET", "/slots", b"", {})
        full = await client.asend("GET", "/slots", b"", {}, query="fail_on_no_slot=1")
        gone.set()
        await call
        return slots, full

    slots, full = asyncio.run(scenario())
    (slot,) = slots.json
    assert (slot["is_processing"], slot["n_prompt_tokens"] > 3) == (True, True)
    assert full.status == 503


def test_what_needs_no_model_waits_for_no_place(model: LLM) -> None:
    application = app(model, Settings(parallel=1))
    client, service = Client(application), application.state.service

    async def scenario() -> Reply:
        gone = asyncio.Event()
        body = json.dumps({**SMALL, "n_predict": -1, "ignore_eos": True, "n_cmpl": 16}).encode()
        headers = {"content-type": "application/json"}
        calls = [
            asyncio.ensure_future(client.asend("POST", "/completion", body, headers, hang_up=gone)) for _ in range(2)
        ]
        while not service.admission.waiting:
            await asyncio.sleep(0)
        reply = await client.apost("/tokenize", {"content": "Tom"})
        assert service.admission.waiting
        gone.set()
        await asyncio.gather(*calls)
        return reply

    assert asyncio.run(scenario()).status == 200


def test_openais_routes_are_there_without_v1(client: Client) -> None:
    asked = {"messages": HELLO, "max_tokens": 4, "seed": 1}
    assert client.post("/chat/completions", asked).json["choices"] == client.post(
        "/v1/chat/completions", asked
    ).json["choices"]  # fmt: skip
    assert client.get("/models").json == client.get("/v1/models").json
    assert client.get("/models/other").json["id"] == "other"


def test_metrics_have_llama_servers_names(model: LLM) -> None:
    client = Client(app(model, Settings(metrics=True)))
    for _ in range(2):
        client.post("/completion", {**SMALL, "prompt": "Once upon a midnight"})
    page = client.get("/metrics").body.decode()
    found = {line.split()[0]: float(line.split()[1]) for line in page.splitlines() if line.startswith("llamacpp:")}
    not_counted = {"spec_decode", "n_decode_total", "n_busy_slots_per_decode"}
    assert {name for name in KEYS["metrics"] if name not in found} == {
        name for name in KEYS["metrics"] if any(word in name for word in not_counted)
    }
    prompt = len(model.prompt_ids("Once upon a midnight"))
    assert found["llamacpp:tokens_predicted_total"] == 16
    assert found["llamacpp:n_tokens_max"] == prompt + 8
    read, cached = found["llamacpp:prompt_tokens_total"], found["llamacpp:prompt_tokens_cached_total"]
    assert (read + cached, cached > 0) == (2 * prompt, True)
    assert found["llamacpp:predicted_tokens_seconds"] > 0
    assert found["llamacpp:requests_processing"] == found["llamacpp:requests_deferred"] == 0


def test_reasoning_stays_in_the_text_where_it_should(client: Client, model: LLM) -> None:
    """As a field of the request, or a setting of the server."""
    own = Client(app(model, Settings(template=TEMPLATE, reasoning_format="none")))
    asked = {"messages": HELLO, "max_tokens": 60, "seed": 1, "grammar": 'root ::= "<think>Hm.</think>Yes."'}
    for of, more in ((client, {"reasoning_format": "none"}), (own, {})):
        message = of.post("/chat/completions", asked | more).json["choices"][0]["message"]
        assert ("reasoning_content" in message, message["content"]) == (False, "<think>Hm.</think>Yes.")
        frames = of.post("/chat/completions", asked | more | {"stream": True}).frames
        parts = [choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"]]
        assert "".join(parts) == "<think>Hm.</think>Yes."
    apart = own.post("/chat/completions", asked | {"reasoning_format": "deepseek"}).json["choices"][0]["message"]
    assert (apart["content"], apart["reasoning_content"]) == ("Yes.", "Hm.")
