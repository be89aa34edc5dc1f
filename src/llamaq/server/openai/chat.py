"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llamaq.boundary.arguments import shown
from llamaq.chat import ChatEvent, ChatStream
from llamaq.chat.options import ChatOptions
from llamaq.server.dialect import dumps, sse
from llamaq.server.endpoint import Job, merged
from llamaq.server.errors import Refusal
from llamaq.server.fields import read_fields
from llamaq.server.openai.asking import finish_reason, head_of, sampling_of, structure_of, token_entry, usage_of
from llamaq.server.openai.protocol import CHAT
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Chat"]


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
        self._tools = _tools_of(values)
        self._logprobs = values.get("top_logprobs", 0) if values.get("logprobs") else None
        self._sampling = sampling_of(values, self._logprobs)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        self._chats: list[_Answer] = []
        self._head: dict[str, Any] = {}

    def prepare(self) -> Sequence[Stream]:
        self._head = head_of(self.served, "chat.completion", "chatcmpl")
        options = self.options()
        chats = ChatStream.prepare(self.served.llm.model, self._values["messages"], options, self.answers)
        one_call = not self._values.get("parallel_tool_calls", True)
        self._chats = [_Answer(chat, one_call) for chat in chats]
        return [chat.text for chat in chats]

    def options(self) -> ChatOptions:
        """What the library is asked for."""
        values, settings = self._values, self.service.settings
        return {
            "max_tokens": values.get("max_completion_tokens", values.get("max_tokens")),
            "sampling": replace(self._sampling, structure=structure_of(values)),
            "stop": values.get("stop", ()),
            "tools": self._tools,
            "template": settings.template,
            "template_kwargs": {**settings.template_kwargs, **_variables(values)},
            "reasoning": values.get("reasoning_format", settings.reasoning_format) != "none",
        }

    async def whole(self) -> dict[str, Any]:
        choices = [await self._choice(i, answer) for i, answer in enumerate(self._chats)]
        return {**self._head, "choices": choices, "usage": self._usage()}

    async def frames(self) -> AsyncGenerator[str, None]:
        head = dumps({**self._head, "object": "chat.completion.chunk"})[:-1]

        def frame(number: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> str:
            end = f'"logprobs":{dumps(logprobs)},"finish_reason":{dumps(reason)}'
            return sse(f'{head},"choices":[{{"index":{number},"delta":{dumps(delta)},{end}}}]}}')

        for number in range(len(self._chats)):
            yield frame(number, {"role": "assistant", "content": ""})
        async with aclosing(merged([answer.events() for answer in self._chats])) as events:
            async for number, event in events:
                delta, logprobs = _delta(event), self._entries(event)
                if delta or logprobs:
                    yield frame(number, delta or {"content": ""}, logprobs={"content": logprobs} if logprobs else None)
                if event.finish_reason is not None:
                    yield frame(number, {}, finish_reason(event.finish_reason))
        if self._values.get("stream_options", {}).get("include_usage"):
            yield sse(f'{head},"choices":[],"usage":{dumps(self._usage())}}}')
        yield sse("[DONE]")

    def tally(self) -> str:
        usage = self._usage()
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return f"{usage['prompt_tokens']} tokens in, {cached} cached, {usage['completion_tokens']} out"

    async def _choice(self, number: int, answer: _Answer) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        reason = "stop"
        async for event in answer.events():
            entries += self._entries(event)
            reason = event.finish_reason or reason
        logprobs = None if self._logprobs is None else {"content": entries}
        return {
            "index": number,
            "message": answer.message(),
            "logprobs": logprobs,
            "finish_reason": finish_reason(reason),
        }

    def _entries(self, event: ChatEvent) -> list[dict[str, Any]]:
        """The token of an event, as ``logprobs`` has it; none where nobody asked, or it ends the answer."""
        tokenizer = self.served.llm.tokenizer
        if self._logprobs is None or event.token is None or event.token in tokenizer.eog_ids:
            return []
        return [token_entry(tokenizer, event.token, event.logprob, event.top_logprobs)]

    def _usage(self) -> dict[str, Any]:
        reasoning = sum(answer.reasoning_tokens for answer in self._chats)
        return usage_of([answer.chat.text for answer in self._chats], self.answers, reasoning)


class _Answer:
    """One answer as it is read."""

    def __init__(self, chat: ChatStream, one_call: bool) -> None:
        self.chat = chat
        self.reasoning_tokens = 0
        self._one_call = one_call
        self._cut = False
        self._text = ""
        self._tokens = 0

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        async for event in self.chat:
            self._tokens += event.token is not None
            if event.reasoning:
                self.reasoning_tokens = self._tokens
            if self._one_call and event.tool_call is not None and event.tool_call.index > 0:
                self._cut = True
                self.chat.cancel()
                yield ChatEvent(finish_reason="tool_calls")
                return
            self._text += event.text
            yield event

    def message(self) -> dict[str, Any]:
        """The message as far as it has been read."""
        message = self.chat.message
        calls, text = message.tool_calls, message.content
        if self._cut:  # what came of a second call is none, and no text either
            calls, text = calls[:1], self._text
        found: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        found["refusal"] = None
        if message.reasoning:
            found["reasoning_content"] = message.reasoning
        if calls:
            found["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": dumps(c.arguments)}}
                for c in calls
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


def _tools_of(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools that the model is shown."""
    choice, tools = values.get("tool_choice", "auto"), values.get("tools", [])
    if choice not in ("auto", "none"):
        message = f'tool_choice must be "auto" or "none": that a call comes cannot be promised yet; got {shown(choice)}'
        raise Refusal(400, message, param="tool_choice")
    if choice == "none":
        return []
    structured = [name for name in ("grammar", "json_schema") if values.get(name)]
    if values.get("response_format", {"type": "text"})["type"] != "text":
        structured.append("response_format")
    if tools and structured:
        raise Refusal(400, f"tools and {structured[0]} cannot hold together yet; leave one out", param=structured[0])
    return list(tools)


def _variables(values: dict[str, Any]) -> dict[str, Any]:
    """Variables of the template that the request sets."""
    found: dict[str, Any] = {}
    if (effort := values.get("reasoning_effort")) is not None:
        found = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    if "add_generation_prompt" in values:
        found["add_generation_prompt"] = values["add_generation_prompt"]
    return {**found, **values.get("chat_template_kwargs", {})}
