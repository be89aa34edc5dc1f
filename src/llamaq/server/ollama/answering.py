"""What generate and chat have in common: reading a request, and the pieces and the end of its answer."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, ClassVar

from llamaq.chat import ChatEvent, ChatRequest, ChatStream
from llamaq.chat.options import ChatOptions
from llamaq.errors import ContextOverflowError, LlamaqError
from llamaq.sampling import SamplingParams
from llamaq.server.about import template_facts
from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field
from llamaq.server.ollama.dialect import line
from llamaq.server.ollama.protocol import DEFAULTS, read_request
from llamaq.server.openai.asking import finish_reason, sampling_of, token_entry, with_defaults
from llamaq.server.service import Service
from llamaq.serving.model import fitted
from llamaq.serving.stream import Overflow, Stream
from llamaq.structure import Structure

__all__ = ["Answering", "time_text"]


class Answering(Job):
    """An answer; one to nothing loads the model, or unloads it."""

    fields: ClassVar[tuple[Field, ...]]

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._began = time.monotonic_ns()
        self.values, self.options, self.ignored = read_request(self.fields, body, strict=service.settings.strict)
        self.model = self.values.get("model")
        self.keep_alive = self.values.get("keep_alive")
        self._logprobs = self.values.get("top_logprobs", 0) if self.values.get("logprobs") else None
        self._sampling = sampling_of(self.options, self._logprobs)
        self._shows = self.values.get("_debug_render_only", False)
        self._loads = self.says_nothing()
        self.answers = 0 if self._loads or self._shows else 1
        self.streamed = self.values.get("stream", True) and self.answers == 1
        self._loading = 0  # nanoseconds until the model was there
        self._sent: set[str] = set()  # ids of calls
        self._told = 0  # characters of the answer

    @abstractmethod
    def says_nothing(self) -> bool:
        """Whether the request has nothing to answer to."""

    @abstractmethod
    def conversation(self) -> ChatRequest:
        """The prompt; runs in a thread, as ``prepare`` does."""

    @abstractmethod
    def piece(self, text: str, thinking: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The part of an answer as the route tells it."""

    def ending(self) -> dict[str, Any]:
        """What the route tells at the end besides."""
        return {}

    async def without_model(self) -> Any:
        if not (self._loads and self.keep_alive == 0):
            return None
        entry = await self.service.models.unload(self.model)
        return {**self._head(entry.name), **self.piece("", "", ()), "done": True, "done_reason": "unload"}

    def prepare(self) -> Sequence[Stream]:
        self._loading = time.monotonic_ns() - self._began
        if self._loads:
            return []
        self.served.llm.model.check_writes()
        self._settle()
        self._request = self.conversation()
        if self._shows:
            return []
        request, options = self._fitting(self._request, self.asked())
        (self._chat,) = ChatStream.answers(self.served.llm.model, request, options)
        return [self._chat.text]

    def asked(self) -> ChatOptions:
        """What the library is asked for."""
        overflow: Overflow = "error"
        if self.values.get("truncate"):
            overflow = "truncate_left"
        if self.values.get("shift"):
            overflow = "shift"
        return {
            "max_tokens": self.options.get("num_predict"), "stop": self.options.get("stop", ()),
            "sampling": replace(self._sampling, structure=self._structure()), "overflow": overflow,
            "keep": self.options.get("num_keep", 0) if overflow != "error" else 0,
        }  # fmt: skip

    def variables(self) -> dict[str, Any]:
        """Those of the template. Raises ``Refusal`` where the model does not think and should."""
        settings, think = self.service.settings, self.values.get("think")
        thinks = template_facts(self.served.llm.metadata, settings.template).thinking
        if think not in (None, False) and not thinks:
            raise Refusal(400, f'"{self.served.name}" does not support thinking', param="think")
        found: dict[str, Any] = dict(settings.template_kwargs)
        if thinks or think is False:
            found["enable_thinking"] = think is not False
        if isinstance(think, str):
            found["reasoning_effort"] = think
        return found

    async def whole(self) -> dict[str, Any]:
        if self._loads:
            return {**self._head(self.served.name), **self.piece("", "", ()), "done": True, "done_reason": "load"}
        if self._shows:
            shown = {"_debug_info": {"rendered_template": self._request.prompt}}
            return {**self._head(self.served.name), **self.piece("", "", ()), **shown}
        entries: list[dict[str, Any]] = []
        reason = ""
        async for event in self._chat:
            entries += self._entries(event)
            reason = event.finish_reason or reason
        message = self._chat.message
        calls = [_call_of(i, call) for i, call in enumerate(message.tool_calls)]
        found = self.piece(message.content, message.reasoning, calls)
        return {**self._head(self.served.name), **found, **self._end(reason), **_named("logprobs", entries)}

    async def frames(self) -> AsyncGenerator[str, None]:
        name, reason = self.served.name, ""
        async for event in self._chat:
            reason = event.finish_reason or reason
            text = event.text if event.finish_reason is None else self._chat.message.content[self._told :]
            self._told += len(text)  # a call that was cut off turns out to be text at the end
            calls, entries = self._new_calls(event), self._entries(event)
            if text or event.reasoning or calls or entries:
                found = self.piece(text, event.reasoning, calls)
                yield line({**self._head(name), **found, "done": False, **_named("logprobs", entries)})
        yield line({**self._head(name), **self.piece("", "", ()), **self._end(reason)})

    def tally(self) -> dict[str, int]:
        if not self.answers:
            return {}
        usage = self._chat.usage
        return {"in": usage.prompt_tokens, "cached": usage.cached_tokens, "out": usage.completion_tokens}

    def _settle(self) -> None:
        """Takes what the model's owner has set where the request says nothing, and Ollama's defaults before ours."""
        own, plain = self.served.llm.model.defaults.sampling, SamplingParams()
        theirs = {name: value for name, value in DEFAULTS.items() if getattr(own, name) == getattr(plain, name)}
        self._sampling = with_defaults(self._sampling, self.options, replace(own, **theirs))
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)

    def _new_calls(self, event: ChatEvent) -> list[dict[str, Any]]:
        """Calls that have not been told: one is whole where the next begins, or the answer ends. They are read then
        alone, for each look reads all of their arguments."""
        begins = event.tool_call is not None and event.tool_call.id is not None
        if not begins and event.finish_reason is None:
            return []
        calls = self._chat.message.tool_calls
        found = [_call_of(i, call) for i, call in enumerate(calls) if call.id not in self._sent]
        self._sent |= {call.id for call in calls}
        return found

    def _end(self, reason: str) -> dict[str, Any]:
        usage = self._chat.usage
        ended = finish_reason(reason)
        return {
            "done": True, "done_reason": "stop" if ended == "tool_calls" else ended, **self.ending(),
            "total_duration": time.monotonic_ns() - self._began, "load_duration": self._loading,
            "prompt_eval_count": usage.prompt_tokens, "prompt_eval_duration": round(usage.prompt_seconds * 1e9),
            "eval_count": usage.completion_tokens, "eval_duration": round(usage.completion_seconds * 1e9),
        }  # fmt: skip

    def _entries(self, event: ChatEvent) -> list[dict[str, Any]]:
        tokenizer = self.served.llm.tokenizer
        if self._logprobs is None or event.token is None or event.token in tokenizer.eog_ids:
            return []
        entry = token_entry(tokenizer, event.token, event.logprob, event.top_logprobs)
        top = entry.pop("top_logprobs")
        for each in (entry, *top):
            del each["id"]
        return [{**entry, **_named("top_logprobs", top)}]

    def _structure(self) -> Structure | None:
        format = self.values.get("format") or None
        if format is None:
            return None
        from llamaq.structure import json_object, json_schema

        try:
            return json_object() if format == "json" else json_schema(format)
        except (LlamaqError, TypeError, ValueError) as error:
            raise Refusal(400, f"format: {error}", param="format") from None

    def _fitting(self, request: ChatRequest, options: ChatOptions) -> tuple[ChatRequest, ChatOptions]:
        """The same, within ``num_ctx``."""
        n_ctx, wanted = self.served.llm.n_ctx, self.options.get("num_ctx")
        if wanted is None or wanted == n_ctx:
            return request, options
        if wanted > n_ctx:
            message = f"num_ctx: {wanted} tokens are more than the {n_ctx} that this server has; start it with -c"
            raise Refusal(400, message, param="options.num_ctx")
        limit = options["max_tokens"]
        try:
            ids, _ = fitted(request.ids, wanted, options["overflow"], options["keep"], limit)
        except ContextOverflowError as error:
            raise Refusal(400, f"the prompt has {error.needed} tokens, num_ctx {wanted}; shorten it") from None
        room = wanted - len(ids) + 1
        return replace(request, ids=ids), {**options, "max_tokens": room if limit is None else min(limit, room)}

    def _head(self, name: str) -> dict[str, Any]:
        return {"model": name, "created_at": time_text(time.time_ns())}


def time_text(nanoseconds: int) -> str:
    """A time since 1970 as Ollama writes it."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _named(name: str, values: list[Any]) -> dict[str, Any]:
    return {name: values} if values else {}


def _call_of(index: int, call: Any) -> dict[str, Any]:
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": call.arguments}}
