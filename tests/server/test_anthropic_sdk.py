"""Anthropic's own client, through a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import anthropic
import httpx2
import pydantic
import pytest

from asgi import TEMPLATE
from listening import listening
from llamaq import LLM, SamplingParams
from llamaq.server import Settings, app
from llamaq.server.anthropic import messages
from llamaq.server.service import Service
from llamaq.structure import gbnf
from waiting import wait_until

HELLO: list[Any] = [{"role": "user", "content": "Tell me of Tom"}]
SEED = {"seed": 1}
SMALL: dict[str, Any] = {"model": "claude-opus-5-5", "messages": HELLO, "max_tokens": 12, "extra_body": SEED}
ENDLESS: dict[str, Any] = {**SMALL, "max_tokens": 10_000, "extra_body": {**SEED, "ignore_eos": True}}
TOOLS: list[Any] = [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}]


@pytest.fixture(scope="module")
def application(model: LLM) -> Any:
    return app(model, Settings(names=("stories",), template=TEMPLATE, api_keys=["k-1"], parallel=8))


@pytest.fixture(scope="module")
def url(application: Any) -> Iterator[str]:
    with listening(application) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="k-1", max_retries=0, _strict_response_validation=True) as found:
        yield found


@pytest.fixture(scope="module")
def expected(model: LLM) -> str:
    return model.chat(HELLO, template=TEMPLATE, max_tokens=12, sampling=SamplingParams(seed=1)).text


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message(client: anthropic.Anthropic, expected: str) -> None:
    message = client.messages.create(**SMALL)
    assert (text_of(message), message.stop_reason, message.model) == (expected, "max_tokens", "stories")
    assert message.usage.output_tokens == 12
    raw = client.messages.with_raw_response.create(**SMALL)
    assert raw.headers["request-id"] == raw.parse()._request_id
    assert raw.headers["x-llamaq-seed"] == "1"


def test_the_beta_client(client: anthropic.Anthropic, expected: str) -> None:
    """It adds ``?beta=true``."""
    message = client.beta.messages.create(**SMALL, betas=["context-1m-2025-08-07"])
    assert [block.text for block in message.content if block.type == "text"] == [expected]
    assert client.beta.messages.count_tokens(model="claude-x", messages=HELLO).input_tokens > 0


def test_streams(client: anthropic.Anthropic, expected: str) -> None:
    events = list(client.messages.create(**SMALL, stream=True))
    assert [event.type for event in events if event.type != "content_block_delta"] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    with client.messages.stream(**SMALL) as stream:
        assert "".join(stream.text_stream) == expected
        final = stream.get_final_message()
    assert (text_of(final), final.stop_reason, final.usage.output_tokens) == (expected, "max_tokens", 12)
    count = client.messages.count_tokens(model="claude-x", messages=HELLO).input_tokens
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) == count


def test_system_stops_and_prefill(client: anthropic.Anthropic, model: LLM) -> None:
    said = [{"role": "system", "content": "Be brief."}, *HELLO, {"role": "assistant", "content": " Tom"}]
    whole = model.chat(said, template=TEMPLATE, max_tokens=30, sampling=SamplingParams(seed=1)).text
    word = whole.split()[1]
    message = client.messages.create(
        model="stories", max_tokens=30, messages=said[1:], stop_sequences=[word], extra_body=SEED,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    )  # fmt: skip
    assert (text_of(message), message.stop_sequence) == (whole[: whole.index(word)], word)


def scripted(grammar: str) -> Any:
    """While it lasts, the model can only write what the grammar has."""
    return mock.patch.object(messages, "structure_of", return_value=gbnf(grammar))


def test_tools(client: anthropic.Anthropic) -> None:
    call = '<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>'
    asked = {**SMALL, "max_tokens": 100, "tools": TOOLS}
    with scripted(f"root ::= {json.dumps(call)}"):
        message: Any = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            parts = [event.partial_json for event in stream if event.type == "input_json"]
            final: Any = stream.get_final_message()
    assert json.loads("".join(parts)) == {"at": "a"}
    for found in (message, final):
        (block,) = found.content
        assert (block.type, found.stop_reason) == ("tool_use", "tool_use")
        assert (block.name, block.input) == ("look", {"at": "a"})
    (block,) = message.content
    result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "A cat."}]}
    after: Any = client.messages.create(**{**asked, "messages": [*HELLO, message.to_param(), result]})
    assert after.usage.input_tokens + (after.usage.cache_read_input_tokens or 0) > message.usage.input_tokens


def test_thoughts(client: anthropic.Anthropic) -> None:
    with scripted('root ::= "<think>Hm.</think>Yes."'):
        message: Any = client.messages.create(**{**SMALL, "max_tokens": 60}, thinking={"type": "adaptive"})
        with client.messages.stream(**{**SMALL, "max_tokens": 60}) as stream:
            final = stream.get_final_message()
    assert [block.model_dump(include={"type", "thinking", "signature", "text"}) for block in message.content] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "llamaq"}, {"type": "text", "text": "Yes."},
    ]  # fmt: skip
    assert [block.type for block in final.content] == ["thinking", "text"]
    again: Any = [*HELLO, message.to_param(), {"role": "user", "content": "Why?"}]
    assert client.messages.create(**{**SMALL, "messages": again}).stop_reason == "max_tokens"


class Answer(pydantic.BaseModel):
    yes: bool


def test_structures(client: anthropic.Anthropic) -> None:
    asked = {**SMALL, "max_tokens": 60}
    parsed = client.messages.parse(**asked, output_format=Answer)
    assert isinstance(parsed.parsed_output, Answer)
    with client.messages.stream(**asked, output_format=Answer) as stream:
        assert stream.get_final_message().parsed_output == parsed.parsed_output


def test_models(client: anthropic.Anthropic) -> None:
    (listed,) = client.models.list()
    assert (listed.id, listed.type, listed.display_name) == ("stories", "model", "stories")
    assert client.models.retrieve("stories") == listed


def test_errors(client: anthropic.Anthropic, url: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]") as caught:
        client.messages.create(**{**SMALL, "messages": [{"role": "cook", "content": "x"}]})
    body: Any = caught.value.body
    assert (body["error"]["type"], body["request_id"]) == ("invalid_request_error", caught.value.request_id)
    assert client.messages.create(**{**SMALL, "model": "gpt-4"}).model == "stories"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("gpt-4")
    long: Any = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(**{**SMALL, "messages": long}, stream=True)
    with (
        anthropic.Anthropic(base_url=url, auth_token="wrong", api_key=None, max_retries=0) as other,
        pytest.raises(anthropic.AuthenticationError),
    ):
        other.messages.create(**SMALL)
    with anthropic.Anthropic(base_url=url, auth_token="k-1", api_key=None) as other:
        assert other.messages.create(**SMALL).stop_reason == "max_tokens"


def test_an_error_in_the_middle_of_a_stream(client: anthropic.Anthropic) -> None:
    with mock.patch.object(messages.Messages, "_end", side_effect=RuntimeError("broken")):
        stream = client.messages.create(**SMALL, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="its log says why"):
            list(stream)


def is_free(service: Service) -> bool:
    (served,) = service.models.loaded
    return served.llm.model.scheduler.idle and service.admission.running == service.admission.tickets == 0


def test_who_leaves_ends_the_answer(client: anthropic.Anthropic, application: Any) -> None:
    with client.messages.stream(**ENDLESS) as stream:
        next(iter(stream.text_stream))
    wait_until(lambda: is_free(application.state.service))
    with pytest.raises(anthropic.APITimeoutError):
        client.with_options(timeout=0.05).messages.create(**ENDLESS)
    wait_until(lambda: is_free(application.state.service))


def test_who_is_sent_away_comes_again(model: LLM, expected: str) -> None:
    """Once there is room: the server says when that may be."""
    application = app(model, Settings(template=TEMPLATE, parallel=1, max_queue=0))
    with listening(application) as url, anthropic.Anthropic(base_url=url, api_key="none") as holder:
        held = holder.messages.create(**{**ENDLESS, "max_tokens": 200}, stream=True)
        next(iter(held))
        statuses: list[int] = []

        def seen(response: httpx2.Response) -> None:
            statuses.append(response.status_code)
            held.close()

        hooks: dict[str, list[Callable[..., Any]]] = {"response": [seen]}
        with anthropic.Anthropic(
            base_url=url, api_key="none", max_retries=5, http_client=httpx2.Client(event_hooks=hooks)
        ) as client:
            assert text_of(client.messages.create(**SMALL)) == expected
        assert (set(statuses[:-1]), statuses[-1]) == ({429}, 200)


def test_many_at_once(url: str, client: anthropic.Anthropic) -> None:
    """Streamed or not, each gets what it gets alone."""
    cases: list[Any] = [[{"role": "user", "content": f"Tell me of number {i}"}] for i in range(12)]
    alone = [text_of(client.messages.create(**{**SMALL, "messages": case})) for case in cases]

    async def streamed(asynchronous: anthropic.AsyncAnthropic, case: Any) -> str:
        async with asynchronous.messages.stream(**{**SMALL, "messages": case}) as stream:
            return "".join([text async for text in stream.text_stream])

    async def plain(asynchronous: anthropic.AsyncAnthropic, case: Any) -> str:
        return text_of(await asynchronous.messages.create(**{**SMALL, "messages": case}))

    async def together() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=url, api_key="k-1", max_retries=0) as asynchronous:
            ways = [streamed, plain] * 6
            return await asyncio.gather(*(way(asynchronous, case) for way, case in zip(ways, cases, strict=True)))

    assert asyncio.run(together()) == alone
