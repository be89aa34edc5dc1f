"""POST /v1/responses."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from llamaq.chat import ChatEvent, ChatStream
from llamaq.chat.options import PromptOptions
from llamaq.server.dialect import Dialect, dumps, sse
from llamaq.server.endpoint import Job
from llamaq.server.errors import Refusal
from llamaq.server.fields import read_fields
from llamaq.server.openai.asking import (
    finish_reason,
    sampling_of,
    structure_of,
    token_entry,
    usage_of,
    variables_of,
    with_defaults,
)
from llamaq.server.openai.responses_fields import RESPONSE
from llamaq.server.openai.responses_input import ResponseTools
from llamaq.server.openai.responses_output import Output
from llamaq.server.openai.responses_unread import unread
from llamaq.server.service import Service
from llamaq.serving.stream import Stream

__all__ = ["Response", "ResponseTokens"]

logger = logging.getLogger("llamaq.server")


class Response(Job):
    """An answer as a list of items. Nothing of it is kept."""

    asked_in = "input"

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service)
        self._values, self.ignored = read_fields(RESPONSE, body, strict=service.settings.strict)
        values = self._values
        if "input" not in values:
            raise Refusal(400, "input is missing", param="input")
        self.ignored += unread(body, strict=service.settings.strict)
        self.model = values.get("model")
        self.streamed = values.get("stream", False)
        self.gathered = values.get("parallel_tool_calls", True)  # else it ends where a second call begins
        self._tools: ResponseTools = values.get("tools") or ResponseTools()
        if self._tools.skipped:
            logger.info("tools that cannot be had here are left out: %s", ", ".join(self._tools.skipped)[:500])
            self.ignored += self._tools.skipped
        include = values.get("include", [])
        shown = "message.output_text.logprobs" in include
        self._sampling = sampling_of(values, values.get("top_logprobs", 0) if shown else None)
        self._output = Output(self._tools, carried="reasoning.encrypted_content" in include)
        self._chat: ChatStream | None = None
        self._id, self._created = f"resp_{secrets.token_hex(12)}", int(time.time())
        self._number = 0

    def prepare(self) -> Sequence[Stream]:
        values = self._values
        self._sampling = with_defaults(self._sampling, values, self.served.llm.model.defaults.sampling)
        self.headers["x-llamaq-seed"] = str(self._sampling.seed)
        structure = structure_of({"response_format": values["text"]}, "text") if "text" in values else None
        options: Any = {
            **self._prompt(),
            "max_tokens": values.get("max_output_tokens"),
            "sampling": replace(self._sampling, structure=structure),
            "parallel_tool_calls": values.get("parallel_tool_calls", True),
            "overflow": "truncate_left" if values.get("truncation") == "auto" else "error",
        }
        (self._chat,) = ChatStream.prepare(self.served.llm.model, self._messages(), options)
        return [self._chat.text]

    async def whole(self) -> dict[str, Any]:
        assert self._chat is not None
        status = "completed"
        async for event in self._chat:
            status = self._read(event)[1] or status
        return self._object(status)

    async def frames(self) -> AsyncGenerator[str, None]:
        for name in ("response.created", "response.in_progress"):
            yield self._frame({"type": name, "response": self._object("in_progress")})
        assert self._chat is not None
        status = "completed"
        async for event in self._chat:
            found, ended = self._read(event)
            for each in found:
                yield self._frame(each)
            status = ended or status
        yield self._frame({"type": f"response.{status}", "response": self._object(status)})

    def failed(self, dialect: Dialect, refusal: Refusal) -> str:
        said = {
            "type": "error",
            "code": refusal.code or refusal.type,
            "message": refusal.message,
            "param": refusal.param,
        }
        error = {"code": "server_error", "message": refusal.message}
        last = {"type": "response.failed", "response": {**self._object("failed"), "error": error}}
        return self._frame(said) + self._frame(last)

    def tally(self) -> dict[str, int]:
        if self._chat is None:
            return {}
        usage = self._chat.usage
        return {"in": usage.prompt_tokens, "cached": usage.cached_tokens, "out": usage.completion_tokens}

    def _messages(self) -> list[dict[str, Any]]:
        instructions = self._values.get("instructions")
        first = [] if instructions is None else [{"role": "system", "content": instructions}]
        messages: list[dict[str, Any]] = [*first, *self._values["input"]]
        return messages

    def _prompt(self) -> PromptOptions:
        values, settings = self._values, self.service.settings
        choice = values.get("tool_choice")
        if isinstance(choice, dict) and choice.get("type") == "custom":
            choice = {**choice, "type": "function"}
        effort = {"reasoning_effort": values.get("reasoning", {}).get("effort")}
        return {
            "tools": self._tools.shown,
            "tool_choice": choice,
            "template": settings.template,
            "template_kwargs": {**settings.template_kwargs, **variables_of({**values, **effort})},
            "picture_progress": self.go_on,
        }

    def _read(self, event: ChatEvent) -> tuple[list[dict[str, Any]], str | None]:
        """What an event is for the client, and the status at the end."""
        tokenizer, logprobs = self.served.llm.tokenizer, []
        if self._sampling.logprobs is not None and event.token is not None and event.token not in tokenizer.eog_ids:
            logprobs = [token_entry(tokenizer, event.token, event.logprob, event.top_logprobs)]
        found = self._output.read(event, logprobs)
        if event.finish_reason is None:
            return found, None
        status = "incomplete" if finish_reason(event.finish_reason) == "length" else "completed"
        return [*found, *self._output.end(status)], status

    def _frame(self, event: dict[str, Any]) -> str:
        name = event["type"]
        frame = sse(dumps({"type": name, "sequence_number": self._number, **event}), name)
        self._number += 1
        return frame

    def _object(self, status: str) -> dict[str, Any]:
        values, ended = self._values, status in ("completed", "incomplete")
        reasoning = values.get("reasoning", {})
        return {
            "id": self._id, "object": "response", "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None, "status": status, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": values.get("instructions"), "max_output_tokens": values.get("max_output_tokens"),
            "model": self.served.name, "output": self._output.items if ended else [],
            "parallel_tool_calls": values.get("parallel_tool_calls", True), "previous_response_id": None,
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")}, "store": False,
            "background": False, "temperature": self._sampling.temperature, "top_p": self._sampling.top_p,
            "text": {"format": values.get("text", {}).get("given", {"type": "text"})},
            "tool_choice": values.get("tool_choice", "auto"), "tools": self._tools.given,
            "truncation": values.get("truncation", "disabled"), "usage": self._usage() if ended else None,
            "metadata": values.get("metadata", {}),
        }  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        assert self._chat is not None
        usage = usage_of([self._chat], 1)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": usage["prompt_tokens"] - cached,
            },
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": self._chat.reasoning_tokens},
            "total_tokens": usage["total_tokens"],
        }


class ResponseTokens(Response):
    """How many tokens the prompt of a response has."""

    def __init__(self, service: Service, body: dict[str, Any]) -> None:
        super().__init__(service, body)
        self.answers, self.streamed, self._count = 0, False, 0

    def prepare(self) -> Sequence[Stream]:
        self._count = len(self.served.llm.render_chat(self._messages(), **self._prompt()).ids)
        return ()

    async def whole(self) -> dict[str, Any]:
        return {"object": "response.input_tokens", "input_tokens": self._count}

    def tally(self) -> dict[str, int]:
        return {"counted": self._count}
