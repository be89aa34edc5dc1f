"""``Llama.create_chat_completion``: a conversation rendered, answered, and told in OpenAI's shape."""

from __future__ import annotations

import logging
import secrets
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llamaq.boundary.arguments import items
from llamaq.chat import ChatEvent, ChatStream
from llamaq.chat.holding import held_to
from llamaq.chat.messages import ToolCallDelta
from llamaq.chat.request import ChatRequest, chat_request
from llamaq.chat.unread import without_unread
from llamaq.errors import ChatTemplateError
from llamaq.serving.stream import Stream
from llamaq.structure import Structure, json_object, json_schema

from .completions import Stopped, Stopping, finish_reason, usage_of
from .model import Model
from .settings import check_room, max_tokens_of, sampling_of, stops_of

__all__ = ["answer", "asked_tools", "chat"]

logger = logging.getLogger("llamaq")


@dataclass(frozen=True)
class Tools:
    """Definitions that the model is shown; ``choice`` is whether it must call one, or the name of that; ``forced`` the
    name of the one that it must call in any case."""

    shown: tuple[Mapping[str, Any], ...] = ()
    choice: str | None = None
    forced: str | None = None

    @property
    def schema(self) -> Any:
        """That of the arguments of the forced one."""
        named = next(tool["function"] for tool in self.shown if tool["function"]["name"] == self.forced)
        return named.get("parameters") or {"type": "object"}


def asked_tools(values: Mapping[str, Any]) -> Tools:
    """What ``tools`` and ``tool_choice`` ask for, or the older ``functions`` and ``function_call``. Raises
    ``ValueError`` for a choice that is none of them."""
    tools = tuple(values["tools"] or ())
    tools += tuple({"type": "function", "function": function} for function in values["functions"] or ())
    choice = values["tool_choice"]
    if (call := values["function_call"]) is not None:
        choice = call if isinstance(call, str) else {"function": call}
    if choice == "none":
        return Tools()
    names = [tool["function"]["name"] for tool in tools]
    if choice == "required" and tools:
        return Tools(tools, "required", names[0] if len(names) == 1 else None)
    if not isinstance(choice, Mapping):
        return Tools(tools)
    name = choice["function"]["name"]
    if name not in names:
        raise ValueError(f"Tool choice '{name}' not found in tools; they are {names}")
    return Tools(tools, name, name)


def chat(llama: Model, values: Mapping[str, Any], template: str | None) -> dict[str, Any] | Iterator[dict[str, Any]]:
    """The answer to a call with these arguments, rendered with a template of the file or of llamaq (None: the file's
    own)."""
    tools = asked_tools(values)
    messages = [_turn(message) for message in items("messages", values["messages"], "messages")]
    return answer(llama, _request(llama, messages, tools, template), values, tools)


def _turn(message: Any) -> Any:
    """A message in today's shape, of one in that of functions, which were before tools."""
    if not isinstance(message, Mapping):
        return message
    found = dict(message)
    call = found.pop("function_call", None)
    if call and not found.get("tool_calls"):
        found["tool_calls"] = [{"id": "call_0", "type": "function", "function": call}]
    if found.get("role") == "function":
        found |= {"role": "tool", "tool_call_id": "call_0"}
    return found


def _request(llama: Model, messages: list[Any], tools: Tools, template: str | None) -> ChatRequest:
    """The rendered conversation. A template without a place for tools leaves them out, as it does in
    llama-cpp-python."""
    metadata, tokenizer, encoder = llama.metadata_values, llama.parts.tokenizer, llama.llm.model.encoder
    messages, unread = without_unread(metadata, messages, template, tools=bool(tools.shown))
    if unread:
        logger.warning("llama_cpp.Llama: nothing reads these keys of messages: %s", ", ".join(unread))
    try:
        return chat_request(
            metadata, tokenizer, messages, tools=tools.shown, template=template, tool_choice=tools.choice,
            encoder=encoder,
        )  # fmt: skip
    except ChatTemplateError as error:
        if not tools.shown:
            raise
        logger.warning("llama_cpp.Llama: the model is not told of the tools: %s", error)
        return chat_request(metadata, tokenizer, messages, template=template, encoder=encoder)


def answer(
    llama: Model, request: ChatRequest, values: Mapping[str, Any], tools: Tools, *, criteria: Any = None
) -> dict[str, Any] | Iterator[dict[str, Any]]:
    """The answer to a request that is rendered already."""
    check_room(len(request.ids), llama.n_ctx())
    structure, forced = _structure(values["response_format"]), None if request.required else tools.forced
    if forced is not None:
        structure = json_schema(tools.schema)
        request = replace(request, tool_reader=None)  # all of the answer is arguments
    elif tools.choice is not None and not request.required:
        raise ValueError(
            'tool_choice="required" is possible with one tool only, for the chat template has no place for tools; name '
            'one: {"type": "function", "function": {"name": ...}}'
        )
    sampling = sampling_of(
        values, seed=llama.seeds.next(values["seed"]), last_n=llama.last_n_tokens_size,
        logprobs=(values["top_logprobs"] or 0) if values["logprobs"] else None, structure=structure,
        before=() if criteria is None else [Stopping(criteria)],
    )  # fmt: skip
    sampling = replace(sampling, structure=held_to(request, llama.parts.tokenizer, sampling.structure))
    text = llama.llm.model.prepare(
        request.ids, max_tokens=max_tokens_of(values["max_tokens"]), sampling=sampling,
        stop=(*request.stop, *stops_of(values["stop"])), special=request.shown, inserted=request.inserted,
    )  # fmt: skip
    Stream.begin(text)
    told = _Answer(llama, values, ChatStream(request, text), forced)
    return told.chunks() if values["stream"] else told.whole()


def _structure(format: Mapping[str, Any] | None) -> Structure | None:
    """What ``response_format`` asks for. Raises ``ValueError`` for another one than there are."""
    kind = "text" if format is None else format.get("type")
    if format is None or kind == "text":
        return None
    if kind == "json_object":
        return json_schema(format["schema"]) if format.get("schema") is not None else json_object()
    if kind == "json_schema":
        return json_schema(format["json_schema"]["schema"])
    raise ValueError(f"the type of response_format must be text, json_object or json_schema, got {kind!r}")


class _Answer:
    def __init__(self, llama: Model, values: Mapping[str, Any], stream: ChatStream, forced: str | None) -> None:
        self._stream = stream
        self._forced = forced
        self._tokenizer = llama.parts.tokenizer
        self._logprobs = bool(values["logprobs"])
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": values["model"] or llama.model_path,
        }

    def whole(self) -> dict[str, Any]:
        self._stream.text.gather()
        text, reasoning, reason = "", "", "stop"
        calls: list[dict[str, Any]] = []
        entries: list[dict[str, Any]] = []
        for event in self._events():
            text += event.text
            reasoning += event.reasoning
            reason = event.finish_reason or reason
            entries += self._entries(event)
            if (delta := event.tool_call) is not None:
                if delta.id is not None:
                    calls.append(_call(delta.id, delta.name or ""))
                calls[-1]["function"]["arguments"] += delta.arguments
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message |= {"function_call": dict(calls[0]["function"]), "tool_calls": calls}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": entries, "refusal": None} if self._logprobs else None,
            "finish_reason": finish_reason(reason),
        }
        return {**self._head, "choices": [choice], "usage": usage_of(self._stream.text)}

    def chunks(self) -> Generator[dict[str, Any], None, None]:
        empty = {} if self._forced is None else {"content": None, "function_call": None, "tool_calls": None}
        yield self._chunk({"role": "assistant", **empty})
        reason = "stop"
        for event in self._events():
            reason = event.finish_reason or reason
            entries = self._entries(event)
            if (delta := _delta(event)) or entries:
                logprobs = {"content": entries, "refusal": None} if self._logprobs else None
                yield self._chunk(delta or {"content": ""}, logprobs=logprobs)
        yield self._chunk({"role": None, **empty} if empty else {}, reason=finish_reason(reason))

    def _events(self) -> Iterator[ChatEvent]:
        """Those of the stream; where a tool is forced, the whole text is its arguments."""
        if self._forced is None:
            yield from _until_stopped(self._stream)
            return
        begun = False
        for event in _until_stopped(self._stream):
            call = ToolCallDelta(0, event.text)
            if not begun and (event.text or event.finish_reason):
                begun, call = True, ToolCallDelta(0, event.text, f"call_{secrets.token_hex(8)}", self._forced)
            reason = "tool_calls" if event.finish_reason == "stop" else event.finish_reason
            yield replace(event, text="", tool_call=call if begun and (call.id or event.text) else None,
                          finish_reason=reason)  # fmt: skip

    def _entries(self, event: ChatEvent) -> list[dict[str, Any]]:
        """The token of an event, as ``logprobs`` has it."""
        if not self._logprobs or event.token is None or event.token in self._tokenizer.eog_ids:
            return []
        tops = [self._entry(id, logprob) for id, logprob in event.top_logprobs]
        return [{**self._entry(event.token, event.logprob), "top_logprobs": tops}]

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        raw = self._tokenizer.token_bytes(token)
        return {"token": raw.decode("utf-8", "ignore"), "bytes": list(raw), "logprob": logprob}

    def _chunk(self, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


def _until_stopped(stream: ChatStream) -> Iterator[ChatEvent]:
    """The events; those of an answer that a stopping criterion ends have a last one, too."""
    try:
        yield from stream
    except Stopped:
        yield ChatEvent(text=stream.text.held, finish_reason="stop")


def _call(id: str, name: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}


def _delta(event: ChatEvent) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if event.text:
        delta["content"] = event.text
    if event.reasoning:
        delta["reasoning_content"] = event.reasoning
    if (call := event.tool_call) is not None:
        function = {"name": call.name, "arguments": call.arguments}
        id = {} if call.id is None else {"id": call.id}
        piece = {"index": call.index, **id, "type": "function", "function": function}
        delta = {"role": None, "content": None, **delta, "function_call": dict(function), "tool_calls": [piece]}
    return delta
