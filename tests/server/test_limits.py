"""What is bounded: requests of a key, the time of an answer, of a load, of a step; and what is told about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM
from llamaq.server import Settings, app, endpoint, vectors
from llamaq.server.admission import Admission
from llamaq.server.dialect import dumps, long_json_response
from llamaq.server.errors import Refusal
from llamaq.server.native.texts import Tokenized
from llamaq.server.openai.completions import Completion
from llamaq.server.served import Served
from tiny_encoders import tiny_encoder
from waiting import wait_until

LONG = {"prompt": "Once", "n": 16, "ignore_eos": True}
SHORT = {"prompt": "Once", "max_tokens": 2}


def client_of(model: LLM | Path, **settings: Any) -> Client:
    return Client(app(model, Settings(template=TEMPLATE, load={"threads": 1}, **settings)))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_one_key_cannot_take_all(model: LLM) -> None:
    client = client_of(model, api_keys=("one", "two"), key_requests=1)

    async def scenario() -> None:
        gone = asyncio.Event()
        headers = {"content-type": "application/json", "x_api_key": "one"}
        body = b'{"prompt": "Once", "n": 16, "ignore_eos": true}'
        first = asyncio.ensure_future(client.asend("POST", "/v1/completions", body, headers, hang_up=gone))
        await until(lambda: client.app.state.service.admission.running)
        refused = await client.apost("/v1/completions", SHORT, authorization="Bearer one")
        assert (refused.status, "retry-after" in refused.headers) == (429, True)
        assert "this key" in refused.error["message"]
        assert (await client.apost("/v1/completions", SHORT, x_api_key="two")).status == 200
        gone.set()
        await first
        assert (await client.apost("/v1/completions", SHORT, x_api_key="one")).status == 200

    asyncio.run(scenario())


def test_retry_after_is_how_long_the_queue_takes_at_the_measured_rate() -> None:
    admission = Admission(places=2, max_queue=4, seconds=100.0, per_key=1)
    clock = [0.0]

    async def scenario() -> int:
        with mock.patch.object(time, "monotonic", side_effect=lambda: clock[0]):
            async with admission.places(2):
                clock[0] += 8.0
            taken = admission.places(2)
            await taken.__aenter__()
            waiting = [asyncio.ensure_future(admission._wait(1)) for _ in range(4)]
            await asyncio.sleep(0)
            admission.tickets = 6
            with pytest.raises(Refusal) as caught, admission.ticket():
                pass
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await taken.__aexit__(None, None, None)
        assert admission.running == 0
        return int(caught.value.headers["retry-after"])

    assert asyncio.run(scenario()) == 24  # four wait and two run, two at once, eight seconds each


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_its_time(model: LLM, stream: bool) -> None:
    """Afterwards it is an error, not a shorter answer."""
    client = client_of(model, answer_seconds=0.3)
    name = "frames" if stream else "whole"
    real = getattr(Completion, name)

    async def stuck(self: Completion) -> Any:
        await asyncio.Event().wait()

    async def stuck_frames(self: Completion) -> Any:
        async for frame in real(self):
            yield frame
            await asyncio.Event().wait()

    with mock.patch.object(Completion, name, stuck_frames if stream else stuck):
        reply = client.post("/v1/completions", {**SHORT, "stream": stream})
    error = reply.frames[-1]["error"] if stream else reply.error
    assert (reply.status, error["code"], reply.ended) == (200 if stream else 408, "timeout", True)
    assert "[DONE]" not in reply.events
    assert client.app.state.service.admission.running == client.app.state.service.admission.tickets == 0
    if not stream:
        assert reply.headers["x-should-retry"] == "false"


def test_waiting_counts_into_the_time_of_an_answer(model: LLM) -> None:
    client = client_of(model, answer_seconds=0.2, parallel=1)

    async def scenario() -> Reply:
        async with client.app.state.service.admission.places(1):
            return await client.apost("/v1/completions", SHORT)

    assert asyncio.run(scenario()).status == 408
    assert client.post("/v1/embeddings", {"input": "Tom"}).status == 200


def test_all_but_livez_and_the_page_say_that_the_only_model_is_being_loaded(stories: Path) -> None:
    client = client_of(stories, api_keys=("k",))
    models = client.app.state.service.models

    async def scenario() -> None:
        models.start()
        for path, headers in (("/health", {}), ("/v1/models", {"x_api_key": "k"}), ("/nothing", {"x_api_key": "k"})):
            reply = await client.asend("GET", path, b"", headers)
            assert (reply.status, reply.error["message"], reply.error["code"]) == (503, "Loading model", 503)
            assert reply.error["type"] == "unavailable_error"
            assert int(reply.headers["retry-after"]) > 0
        assert (await client.asend("GET", "/v1/models", b"", {})).status == 401
        assert (await client.apost("/v1/completions", SHORT, x_api_key="k")).status == 503
        assert (await client.asend("GET", "/livez", b"", {})).status == 200
        page = [await client.asend("GET", path, b"", {"accept": "text/html"}) for path in ("/", "/page/page.js")]
        assert [reply.status for reply in page] == [200, 200]  # it tells its reader itself
        assert (await client.asend("GET", "/", b"", {"accept": "*/*", "x_api_key": "k"})).status == 503
        await models.first
        assert (await client.asend("GET", "/health", b"", {})).json == {"status": "ok"}
        assert (await client.apost("/v1/completions", SHORT, x_api_key="k")).status == 200
        await models.close()

    asyncio.run(scenario())


def test_an_asgi_server_that_tells_nothing_of_its_start_may_still_ask(stories: Path) -> None:
    client = client_of(stories)

    async def scenario() -> None:
        assert (await client.apost("/v1/completions", SHORT)).status == 200
        await client.app.state.service.models.close()

    asyncio.run(scenario())


def test_the_watchdog_sees_a_step_that_does_not_end(stories: Path) -> None:
    with LLM.load(stories, threads=1) as llm:
        client = client_of(llm, watchdog_seconds=0.0)
        scheduler = llm.model.scheduler
        assert client.get("/livez").status == 200  # nothing runs
        step, seen = scheduler._step, []

        def looked_at(rows: Any) -> Any:
            seen.append(client.get("/livez"))
            return step(rows)

        with mock.patch.object(scheduler, "_step", looked_at):
            assert llm.generate("Tom", max_tokens=2).text
        assert {(reply.status, reply.error["code"]) for reply in seen} == {(503, "stalled")}
        wait_until(lambda: scheduler.idle)  # the answer comes before its turn ends
        assert (client.get("/livez").status, scheduler.silence) == (200, 0.0)


def test_who_is_let_in_while_it_goes_gives_its_place_back() -> None:
    """In one turn of the loop; nobody would cancel it again."""

    async def scenario() -> None:
        admission = Admission(places=1, max_queue=4, seconds=100.0, per_key=1)
        first = admission.places(1)
        await first.__aenter__()
        second = asyncio.ensure_future(admission._wait(1))
        await until(lambda: admission.waiting)
        await first.__aexit__(None, None, None)
        assert admission.running == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert admission.running == admission.waiting == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed", "/embedding"])
def test_texts_are_read_a_few_at_a_time(model: LLM, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """What the model makes of all their tokens would fill the memory."""
    texts = [f"{'Tom saw a dog. ' * length} One day" for length in (1, 30, 2, 25, 30, 1, 1)]
    expected = model.embed(texts)
    together: list[list[int]] = []
    aembed = LLM.aembed

    async def counted(self: LLM, ids: list[list[int]], **options: Any) -> Any:
        together.append([len(each) for each in ids])
        return await aembed(self, ids, **options)

    monkeypatch.setattr(LLM, "aembed", counted)
    monkeypatch.setattr(vectors, "_MOST_TOKENS", 200)
    body = client_of(model).post(path, {"input": texts}).json
    rows = body["embeddings"] if path == "/api/embed" else body["data"] if path == "/v1/embeddings" else body
    got = [row if isinstance(row, list) else np.ravel(row["embedding"]) for row in rows]
    assert np.array_equal(np.array(got, np.float32), expected)
    assert sum(map(len, together)) == len(texts)
    assert all(sum(part) <= 200 or len(part) == 1 for part in together)
    assert max(map(len, together)) > 1


LONG_VALUES: list[Any] = [
    {"a": [[0.5] * 3000, [1e-9] * 3000], "b": {"c": "d"}},
    [{"index": i, "embedding": [float(i)] * 100} for i in range(70)],
    {"tokens": [*range(5000)]},
    {"tokens": [{"id": i, "piece": "é" if i % 2 else [195]} for i in range(2000)]},
    {"x": None, "y": [[]], "z": [[[[1] * 65]], [[[2] * 65]]]},
    [],
]


@pytest.mark.parametrize("value", LONG_VALUES)
def test_a_long_answer_is_written_as_any_other(value: Any) -> None:
    assert asyncio.run(long_json_response(value)).body == dumps(value).encode()


def test_others_have_their_turn_while_a_long_answer_is_written() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        task = asyncio.ensure_future(other())
        await long_json_response({"embeddings": [[0.5] * 1000] * 200})
        task.cancel()

    asyncio.run(scenario())
    assert turns > 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed", "/embedding", "/tokenize"])
def test_vectors_and_tokens_are_long_answers(model: LLM, path: str) -> None:
    with mock.patch.object(endpoint, "long_json_response", side_effect=long_json_response) as written:
        assert client_of(model).post(path, {"content" if path[1] in "et" else "input": "Tom"}).status == 200
    assert written.call_count == 1


def test_documents_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    path, _, _ = tiny_encoder("bert-rank")
    documents = ["a dog", "the", "cat."]
    with LLM.load(path, threads=1) as ranker:
        scores = ranker.rerank("dog", documents).tolist()
        monkeypatch.setattr(vectors, "_MOST_TOKENS", 1)
        found = client_of(ranker).post("/rerank", {"query": "dog", "documents": documents}).json["results"]
    assert {each["index"]: each["relevance_score"] for each in found} == dict(enumerate(scores))


def test_pieces_of_tokens_take_the_memory_of_the_vocabulary(model: LLM) -> None:
    job = Tokenized(client_of(model).app.state.service, {"content": "dog dog dog", "with_pieces": True})
    job.served = Served(model, "m")
    job.prepare()
    told = asyncio.run(job.whole())["tokens"]
    assert len({id(each) for each in told}) == len({each["id"] for each in told}) < len(told)
