"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llamaq.chat import ChatEvent, ChatMessage, ChatStream
from llamaq.chat.options import PromptOptions
from llamaq.chat.unread import without_unread
from llamaq.server.dialect import dumps, sse
from llamaq.server.endpoint import Job, merged
from llamaq.server.errors import Refusal
from llamaq.server.fields import read_fields
from llamaq.server.openai.asking import (
    adapter_of,
    finish_reason,
    head_of,
    sampling_of,
    structure_of,
    timings_of,
    token_entry,
    usage_of,
    variables_of,
    with_defaults,
)
from llamaq.server.openai.protocol import CHAT
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Chat", "ChatTokens"]


class Chat(Job):
    """An answer to a conversation, or ``n`` of them."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(CHAT, body, strict=service.settings.strict)
        values = self._values
        self.model = values.get("model")
        _check(values)
        self.answers = values.get("n", 1)
        self.streamed = values.get("stream", False)
        self.gathered = values.get("parallel_tool_calls", True)  # else it ends where a second call begins
        self._logprobs = values.get("top_logprobs", 0) if values.get("logprobs") else None
        self._sampling = sampling_of(values, self._logprobs)
        self._chats: list[ChatStream] = []
        self._head: dict[str, Any] = {}

    def prepare(self) -> Sequence[Stream]:
        values = self._values
        self._head = head_of(self.served, "chat.completion", "chatcmpl")
        defaults = self.served.llm.model.defaults.sampling
        self._sampling = with_defaults(self._sampling, values, defaults)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        options: Any = {
            **self.prompt_options(),
            "max_tokens": values.get("max_completion_tokens", values.get("max_tokens")),
            "sampling": replace(self._sampling, structure=structure_of(values)),
            "stop": values.get("stop", ()),
            "adapter": adapter_of(values, self.served),
            "prediction": values.get("prediction"),
            "parallel_tool_calls": values.get("parallel_tool_calls", True),
        }
        self._chats = ChatStream.prepare(self.served.llm.model, self.said(), options, self.answers)
        return [chat.text for chat in self._chats]

    def prompt_options(self) -> PromptOptions:
        values, settings = self._values, self.service.settings
        return {
            "tools": values.get("tools"),
            "tool_choice": values.get("tool_choice"),
            "template": settings.template,
            "template_kwargs": {**settings.template_kwargs, **variables_of(values)},
            "reasoning": values.get("reasoning_format", settings.reasoning_format) != "none",
            "picture_progress": self.go_on,
        }

    def said(self) -> list[Any]:
        """The messages without keys that nothing reads, which are named as ignored; ``strict`` leaves them to be
        refused."""
        messages, settings = self._values["messages"], self.service.settings
        if settings.strict:
            return list(messages)
        metadata, tools = self.served.llm.metadata, bool(self._values.get("tools"))
        said, unread = without_unread(metadata, messages, settings.template, tools=tools)
        self.ignored += [f"messages.{key}" for key in unread]
        return said

    async def whole(self) -> dict[str, Any]:
        choices = [await self._choice(i, chat) for i, chat in enumerate(self._chats)]
        return {**self._head, "choices": choices, **self._counts()}

    async def frames(self) -> AsyncGenerator[str, None]:
        head = dumps({**self._head, "object": "chat.completion.chunk"})[:-1]

        def frame(number: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> str:
            end = f'"logprobs":{dumps(logprobs)},"finish_reason":{dumps(reason)}'
            # Most pieces are text alone, of which json makes a text sooner than of a dict.
            own = f'{{"content":{dumps(delta["content"])}}}' if [*delta] == ["content"] else dumps(delta)
            return sse(f'{head},"choices":[{{"index":{number},"delta":{own},{end}}}]}}')

        for number in range(len(self._chats)):
            yield frame(number, {"role": "assistant", "content": ""})
        async with aclosing(merged(self._chats)) as events:
            async for number, event in events:
                delta, logprobs = _delta(event), self._entries(event)
                if delta or logprobs:
                    yield frame(number, delta or {"content": ""}, logprobs={"content": logprobs} if logprobs else None)
                if event.finish_reason is not None:
                    yield frame(number, {}, finish_reason(event.finish_reason))
        if self._values.get("stream_options", {}).get("include_usage"):
            yield sse(f'{head},"choices":[],{dumps(self._counts())[1:]}')
        yield sse("[DONE]")

    def tally(self) -> dict[str, int]:
        usage = self._usage()
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {"in": usage["prompt_tokens"], "cached": cached, "out": usage["completion_tokens"]}

    async def _choice(self, number: int, chat: ChatStream) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        reason = "stop"
        async for event in chat:
            entries += self._entries(event)
            reason = event.finish_reason or reason
        logprobs = None if self._logprobs is None else {"content": entries}
        return {
            "index": number,
            "message": _message(chat.message),
            "logprobs": logprobs,
            "finish_reason": finish_reason(reason),
        }

    def _entries(self, event: ChatEvent) -> list[dict[str, Any]]:
        """The token of an event, as ``logprobs`` has it; none where nobody asked, or it ends the answer."""
        tokenizer = self.served.llm.tokenizer
        if self._logprobs is None or event.token is None or event.token in tokenizer.eog_ids:
            return []
        return [token_entry(tokenizer, event.token, event.logprob, event.top_logprobs)]

    def _counts(self) -> dict[str, Any]:
        timings = timings_of(self._chats, self.answers, self._chats[0].text.why)
        return {"usage": self._usage(), "timings": timings}

    def _usage(self) -> dict[str, Any]:
        found = usage_of(self._chats, self.answers, sum(chat.reasoning_tokens for chat in self._chats))
        if "prediction" in self._values:  # otherwise the clock's business would be in what is compared
            accepted = sum(chat.usage.accepted_tokens for chat in self._chats)
            drafted = sum(chat.usage.drafted_tokens for chat in self._chats)
            found["completion_tokens_details"] |= {
                "accepted_prediction_tokens": accepted, "rejected_prediction_tokens": drafted - accepted,
            }  # fmt: skip
        return found


class ChatTokens(Chat):
    """How many tokens the prompt of a conversation has."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service, body)
        self.answers, self.streamed, self._count = 0, False, 0

    def prepare(self) -> Sequence[Stream]:
        self._count = len(self.served.llm.render_chat(self.said(), **self.prompt_options()).ids)
        return ()

    async def whole(self) -> dict[str, Any]:
        return {"object": "response.input_tokens", "input_tokens": self._count}

    def tally(self) -> dict[str, int]:
        return {"counted": self._count}


def _message(message: ChatMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"role": "assistant", "content": message.content or (None if message.tool_calls else "")}
    found["refusal"] = None
    if message.reasoning:
        found["reasoning_content"] = message.reasoning
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": dumps(c.arguments)}}
            for c in message.tool_calls
        ]
    return found


def _delta(event: ChatEvent) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if event.text:
        delta["content"] = event.text
    if event.reasoning:
        delta["reasoning_content"] = event.reasoning
    if (call := event.tool_call) is not None:
        piece: dict[str, Any] = {"index": call.index}
        if call.id is not None:
            piece |= {"id": call.id, "type": "function"}
        name = {} if call.name is None else {"name": call.name}
        delta["tool_calls"] = [{**piece, "function": {**name, "arguments": call.arguments}}]
    return delta


def _check(values: dict[str, Any]) -> None:
    """Raises ``Refusal`` for fields that do not go together."""
    if "messages" not in values:
        raise Refusal(400, "messages is missing", param="messages")
    if "top_logprobs" in values and not values.get("logprobs"):
        raise Refusal(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    if "stream_options" in values and not values.get("stream"):
        raise Refusal(400, "stream_options needs stream: true", param="stream_options")
    if values.get("tools") and values.get("grammar") and values.get("tool_choice") != "none":
        raise Refusal(400, "tools and grammar both say what the model writes; leave one out", param="grammar")
