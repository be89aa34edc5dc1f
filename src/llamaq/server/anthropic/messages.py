"""POST /v1/messages."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from llamaq.chat import ChatEvent, ChatStream
from llamaq.server.anthropic.asking import (
    conversation_of,
    model_of,
    needed,
    prompt_options,
    structure_of,
    unused_parts,
)
from llamaq.server.anthropic.blocks import Blocks
from llamaq.server.anthropic.dialect import frame
from llamaq.server.anthropic.protocol import MESSAGES
from llamaq.server.endpoint import Job
from llamaq.server.errors import shutting_down
from llamaq.server.fields import read_fields
from llamaq.server.openai.asking import sampling_of
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Messages"]

_ENDS = {
    "stop": "end_turn", "length": "max_tokens", "context": "model_context_window_exceeded", "tool_calls": "tool_use",
}  # fmt: skip


class Messages(Job):
    """An answer to a conversation."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(MESSAGES, body, strict=service.settings.strict)
        values = self._values
        needed(values, "messages", "max_tokens")
        self.ignored += unused_parts(values, body, strict=service.settings.strict)
        self.model = model_of(values, service.models)
        self.streamed = values.get("stream", False)
        self._stops: list[str] = values.get("stop_sequences", [])
        self._sampling = sampling_of(values, None)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        self._options = prompt_options(values, service.settings)
        self._options["picture_progress"] = self.go_on
        self._id = f"msg_{secrets.token_hex(12)}"
        self._blocks = Blocks()
        self._chat: ChatStream | None = None

    def prepare(self) -> Sequence[Stream]:
        values = self._values
        options: Any = {
            **self._options, "max_tokens": values["max_tokens"], "stop": self._stops,
            "sampling": replace(self._sampling, structure=structure_of(values)),
            "parallel_tool_calls": not values.get("tool_choice", {}).get("disable_parallel_tool_use"),
        }  # fmt: skip
        (self._chat,) = ChatStream.prepare(self.served.llm.model, conversation_of(values), options)
        return [self._chat.text]

    async def whole(self) -> dict[str, Any]:
        event = ChatEvent()
        async for event in self._asked:
            self._blocks.read(event)
        return self._message(self._blocks.content, **self._end(event))

    async def frames(self) -> AsyncGenerator[str, None]:
        """Nothing comes before the first token, for what was in the cache is known by then."""
        event: ChatEvent | None = None
        async for each in self._asked:
            if event is None:
                message = self._message([], stop_reason=None, stop_sequence=None)
                message["usage"] |= {"output_tokens": 0, "output_tokens_details": {"thinking_tokens": 0}}
                yield frame("message_start", message=message)
                yield frame("ping")
            event = each
            for piece in self._blocks.read(event):
                yield piece
        assert event is not None
        end = self._end(event)
        for piece in self._blocks.end():
            yield piece
        yield frame("message_delta", delta=end, usage=self._usage())
        yield frame("message_stop")

    def tally(self) -> dict[str, int]:
        if self._chat is None:
            return {}
        usage = self._chat.usage
        return {"in": usage.prompt_tokens, "cached": usage.cached_tokens, "out": usage.completion_tokens}

    @property
    def _asked(self) -> ChatStream:
        assert self._chat is not None
        return self._chat

    def _message(self, content: list[dict[str, Any]], **end: Any) -> dict[str, Any]:
        head = {"id": self._id, "type": "message", "role": "assistant", "model": self.served.name}
        return {**head, "content": content, **end, "usage": self._usage()}

    def _end(self, event: ChatEvent) -> dict[str, Any]:
        """Why the answer ended. Raises ``Refusal`` where it was ended from outside."""
        if event.finish_reason not in _ENDS:
            raise shutting_down()
        if event.finish_reason == "stop" and event.stop in self._stops:  # the template has some of its own
            return {"stop_reason": "stop_sequence", "stop_sequence": event.stop}
        return {"stop_reason": _ENDS[event.finish_reason], "stop_sequence": None}

    def _usage(self) -> dict[str, Any]:
        usage = self._asked.usage
        return {
            "input_tokens": usage.prompt_tokens - usage.cached_tokens, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens, "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"thinking_tokens": self._asked.reasoning_tokens},
        }  # fmt: skip
