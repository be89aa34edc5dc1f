"""Many at once, clients that go, clients that do not read, the end."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from asgi import TEMPLATE, Client, Reply
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app
from llamaq.server.connection import PieceWriter
from llamaq.server.dialect import Dialect, sse
from llamaq.server.openai.completions import Completion
from llamaq.server.service import Service
from llamaq.serving.scheduler import Scheduler

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


@pytest.fixture
def endless(stories: Path) -> Iterator[LLM]:
    """A model of which answers without an end can be asked for."""
    with LLM.load(stories, threads=1, n_ctx=512, n_cache=2048) as llm:
        yield llm


def long(**more: Any) -> dict[str, Any]:
    """A body that takes all of the context."""
    return {"prompt": "Once upon a time", "ignore_eos": True, "seed": 1, **more}


def client_of(model: LLM, **settings: Any) -> tuple[Client, Service]:
    application = app(model, Settings(template=TEMPLATE, **settings))
    return Client(application), application.state.service


async def until(condition: Any) -> None:
    """Waits without an end; a test whose condition never holds ends by pytest's timeout."""
    while not condition():
        await asyncio.sleep(0.001)


def is_free(service: Service) -> bool:
    scheduler: Scheduler = service.models.loaded[0].llm.model.scheduler
    return scheduler.idle and service.admission.running == service.admission.tickets == 0


def test_the_same_alone_and_among_31_others(model: LLM) -> None:
    client, service = client_of(model, parallel=8, max_queue=64)
    cases = [(f"Tell me of number {i}", i) for i in range(32)]
    sampling = [SamplingParams(seed=seed) for _, seed in cases]
    expected = [
        model.chat([{"role": "user", "content": text}], template=TEMPLATE, max_tokens=12, sampling=each).text
        for (text, _), each in zip(cases, sampling, strict=True)
    ]

    def body(text: str, seed: int, stream: bool) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        return {"messages": messages, "max_tokens": 12, "seed": seed, "stream": stream}

    async def all_of_them() -> list[Reply]:
        return await asyncio.gather(
            *(client.apost(CHAT, body(*case, stream=i % 2 > 0)) for i, case in enumerate(cases))
        )

    for _ in range(2):  # the second time from the cache
        texts = []
        for reply in asyncio.run(all_of_them()):
            assert reply.status == 200
            if reply.headers["content-type"] == "application/json":
                texts.append(reply.json["choices"][0]["message"]["content"])
            else:
                deltas = [choice["delta"] for frame in reply.frames for choice in frame["choices"]]
                texts.append("".join(delta.get("content", "") for delta in deltas))
        assert texts == expected
    assert service.admission.running == service.admission.waiting == 0


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_on_a_response_ends_it(endless: LLM, stream: bool) -> None:
    client, service = client_of(endless)

    async def scenario() -> bytes:
        gone, reply = asyncio.Event(), Reply()
        body = dumped({"input": "Tell me of Tom", "ignore_eos": True, "seed": 1, "stream": stream})
        call = asyncio.ensure_future(client.asend("POST", "/v1/responses", body, JSON, reply=reply, hang_up=gone))
        await until(lambda: any(s.usage.completion_tokens > 2 for s in service._running))
        gone.set()
        await call
        await until(lambda: is_free(service))
        return reply.body

    assert b"response.completed" not in asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_who_hangs_up_ends_the_answer(endless: LLM, stream: bool, n: int) -> None:
    client, service = client_of(endless)

    async def scenario() -> Reply:
        gone, reply = asyncio.Event(), Reply()
        body = long(stream=stream, n=n)
        call = asyncio.ensure_future(
            client.asend("POST", "/v1/completions", dumped(body), JSON, reply=reply, hang_up=gone)
        )
        await until(lambda: any(s.usage.completion_tokens > 2 for s in service._running))
        streams = list(service._running)
        gone.set()
        await call
        assert len(streams) == n
        assert all(stream._request.done for stream in streams)
        assert all(stream.usage.completion_tokens < 400 for stream in streams)
        await until(lambda: is_free(service))
        return reply

    reply = asyncio.run(scenario())
    assert not reply.ended
    assert b"[DONE]" not in reply.body


def test_who_hangs_up_while_waiting_leaves_the_queue(endless: LLM) -> None:
    client, service = client_of(endless, parallel=1)

    async def scenario() -> None:
        gone, first_gone = asyncio.Event(), asyncio.Event()
        first = asyncio.ensure_future(client.asend("POST", "/v1/completions", dumped(long()), JSON, hang_up=first_gone))
        await until(lambda: service.admission.running)
        second = asyncio.ensure_future(client.asend("POST", "/v1/completions", dumped(long()), JSON, hang_up=gone))
        await until(lambda: service.admission.waiting)
        gone.set()
        reply = await second
        assert (reply.status, service.admission.waiting) == (0, 0)
        first_gone.set()
        await first
        await until(lambda: is_free(service))

    asyncio.run(scenario())


def test_who_comes_when_all_is_full_is_told_when_to_come_again(endless: LLM) -> None:
    client, service = client_of(endless, parallel=1, max_queue=1)

    async def scenario() -> None:
        gone = asyncio.Event()
        calls = [
            asyncio.ensure_future(client.asend("POST", "/v1/completions", dumped(long()), JSON, hang_up=gone))
            for _ in range(2)
        ]
        await until(lambda: service.admission.waiting)
        reply = await client.apost("/v1/completions", long(stream=True))
        assert (reply.status, reply.error["type"]) == (429, "rate_limit_error")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        gone.set()
        await asyncio.gather(*calls)
        assert (await client.apost("/v1/completions", long(max_tokens=2))).status == 200

    asyncio.run(scenario())


def test_nobody_waits_for_ever(endless: LLM) -> None:
    client, service = client_of(endless, parallel=1, queue_seconds=0.05)

    async def scenario() -> None:
        gone = asyncio.Event()
        first = asyncio.ensure_future(client.asend("POST", "/v1/completions", dumped(long(n=16)), JSON, hang_up=gone))
        await until(lambda: service.admission.running)
        reply = await client.apost("/v1/completions", long())
        assert (reply.status, reply.headers["retry-after"].isdecimal()) == (429, True)
        gone.set()
        await first

    asyncio.run(scenario())


def test_who_does_not_read_loses_the_answer(endless: LLM) -> None:
    client, service = client_of(endless, send_seconds=0.2)

    async def scenario() -> None:
        reply = Reply()

        async def never() -> None:
            await asyncio.Event().wait()

        stuck = client.asend(
            "POST", "/v1/completions", dumped(long(stream=True)), JSON, reply=reply,
            on_send=lambda reply: never() if len(reply.body) > 1000 else None,
        )  # fmt: skip
        await stuck
        assert (reply.status, reply.ended) == (200, False)
        await until(lambda: is_free(service))

    asyncio.run(scenario())


def test_a_slow_reader_holds_the_model_back_to_a_few_tokens(endless: LLM) -> None:
    client, service = client_of(endless)

    async def scenario() -> None:
        gone, waiting = asyncio.Event(), asyncio.Event()

        def stop_reading(reply: Reply) -> Any:
            return waiting.wait() if reply.body.count(b"data:") > 2 else None

        body = dumped(long(stream=True))
        call = asyncio.ensure_future(
            client.asend("POST", "/v1/completions", body, JSON, hang_up=gone, on_send=stop_reading)
        )
        await until(lambda: service._running and next(iter(service._running)).usage.completion_tokens > 5)
        (stream,) = service._running
        await until(lambda: service.models.loaded[0].llm.model.scheduler.idle)  # it waits for the reader alone
        assert stream.usage.completion_tokens < 40
        other = await client.apost("/v1/completions", long(max_tokens=5))
        assert other.json["usage"]["completion_tokens"] == 5
        gone.set()
        await call

    asyncio.run(scenario())


def test_a_silent_stream_gives_signs_of_life(endless: LLM) -> None:
    client, _ = client_of(endless, ping_seconds=0.01)
    frames, reply = Completion.frames, Reply()

    async def silent(self: Completion) -> Any:
        async for frame in frames(self):
            if frame == sse("[DONE]"):
                await until(lambda: b": ping\n\n" in reply.body)
            yield frame

    with mock.patch.object(Completion, "frames", silent):
        asyncio.run(client.apost("/v1/completions", {"prompt": "Tom", "max_tokens": 2, "stream": True}, reply))
    assert b": ping\n\n" in reply.body
    assert reply.events[-1] == "[DONE]"


def test_a_silent_stream_gives_no_sign_where_none_is_wanted(endless: LLM) -> None:
    client, _ = client_of(endless, ping_seconds=math.inf)
    reply = client.post("/v1/completions", {"prompt": "Tom", "max_tokens": 2, "stream": True})
    assert (reply.events[-1], b"ping" in reply.body) == ("[DONE]", False)


def test_the_body_is_bounded_in_size_and_time(model: LLM) -> None:
    client, service = client_of(model, max_body=1000, body_seconds=0.05)
    big = dumped({"prompt": "x" * 2000})

    async def scenario() -> None:
        assert (await client.apost("/v1/completions", big, content_length=str(len(big)))).status == 413
        parts = [big[at : at + 100] for at in range(0, len(big), 100)]
        reply = await client.asend("POST", "/v1/completions", parts, JSON)
        assert (reply.status, "1000 bytes" in reply.error["message"]) == (413, True)
        slow = await client.asend("POST", "/v1/completions", [], JSON)  # nothing comes
        assert slow.status == 408
        gone = asyncio.Event()
        gone.set()
        assert (await client.asend("POST", "/v1/completions", [], JSON, hang_up=gone)).status == 0

    asyncio.run(scenario())
    assert service.admission.tickets == service.bodies.held == 0


def test_bodies_that_are_read_are_bounded_together(model: LLM) -> None:
    client, service = client_of(model, max_body=1000)

    async def scenario() -> None:
        gone = asyncio.Event()
        slow = [
            asyncio.ensure_future(client.asend("POST", "/v1/completions", [b"x" * 900, None], JSON, hang_up=gone))
            for _ in range(17)
        ]
        await until(lambda: service.bodies.held > 15_000)
        assert service.admission.tickets == 0  # they keep nobody out
        reply = await client.apost("/v1/completions", b"x" * 900)
        assert (reply.status, "retry-after" in reply.headers) == (503, True)
        assert (await client.apost("/v1/completions", {"prompt": "Tom", "max_tokens": 1})).status == 200
        gone.set()
        await asyncio.gather(*slow)
        assert service.bodies.held == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_the_end(endless: LLM, stream: bool) -> None:
    """What runs gets its time and then an error that nobody takes for an end; who waits or comes is sent away."""
    client, service = client_of(endless, parallel=1, drain_seconds=0.0)

    async def scenario() -> None:
        run = asyncio.ensure_future(client.apost("/v1/completions", long(stream=stream, n=8)))
        await until(lambda: any(s.usage.completion_tokens > 2 for s in service._running))
        wait = asyncio.ensure_future(client.apost("/v1/completions", long()))
        await until(lambda: service.admission.waiting)
        await service.drain()
        waited, ran = await wait, await run
        assert (waited.status, "retry-after" in waited.headers) == (503, True)
        late = await client.apost("/v1/completions", long())
        health = await client.asend("GET", "/health", b"", {})
        assert (late.status, health.status) == (503, 503)
        if stream:
            assert (ran.status, ran.frames[-1]["error"]["type"]) == (200, "unavailable_error")
            assert "[DONE]" not in ran.events
        else:
            assert (ran.status, ran.error["type"]) == (503, "unavailable_error")

    asyncio.run(scenario())


def test_what_runs_may_end(endless: LLM) -> None:
    client, service = client_of(endless, drain_seconds=100.0)

    async def scenario() -> None:
        run = asyncio.ensure_future(client.apost("/v1/completions", long(stream=True, max_tokens=100)))
        await until(lambda: service._running)
        await service.drain()
        assert (await run).events[-1] == "[DONE]"

    asyncio.run(scenario())


def test_a_stream_lets_others_have_their_turn() -> None:
    """Among them who learns that the client is gone."""

    async def scenario() -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def send(message: Any) -> None:
            return

        task = asyncio.ensure_future(others())
        writer = PieceWriter(send, Settings(), Dialect())
        for _ in range(80):
            await writer.write("x")
        task.cancel()
        return turns

    assert asyncio.run(scenario()) >= 10


def test_a_fault_in_the_middle_is_an_error_not_an_end(endless: LLM) -> None:
    client, _ = client_of(endless)
    endless_stream = {"prompt": "Tom", "stream": True, "ignore_eos": True}
    with mock.patch.object(Completion, "_lists", side_effect=RuntimeError("broken")):
        reply = client.post("/v1/completions", {**endless_stream, "logprobs": 1})
        assert client.post("/v1/completions", {"prompt": "Tom", "max_tokens": 2, "logprobs": 1}).status == 500
    assert reply.frames[-1]["error"]["type"] == "server_error"
    assert "broken" not in reply.body.decode()
    assert "[DONE]" not in reply.events


def test_a_fault_where_no_error_can_be_told_breaks_off(endless: LLM) -> None:
    client, service = client_of(endless)
    with mock.patch.object(PieceWriter, "write", side_effect=RuntimeError("broken")):
        reply = client.post("/v1/completions", {"prompt": "Tom", "max_tokens": 2, "stream": True})
    assert (reply.status, reply.ended, reply.body) == (200, False, b"")
    assert service.admission.running == 0


def dumped(body: Any) -> bytes:
    return json.dumps(body).encode()
