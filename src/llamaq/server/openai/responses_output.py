"""The items of a response, and the events that tell of them as they grow."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llamaq.chat.json_text import read_json
from llamaq.server.openai.responses_input import INPUT, ResponseTools, hidden

if TYPE_CHECKING:
    from llamaq.chat import ChatEvent, ToolCallDelta

__all__ = ["Output"]

_REASONING = "reasoning_text"
_TEXT = "output_text"
_ARGUMENTS = "function_call_arguments"
_INPUT = "custom_tool_call_input"


class Output:
    """``items`` are those so far. ``carried`` says that reasoning is also given in a form to be sent back."""

    def __init__(self, tools: ResponseTools, *, carried: bool = False) -> None:
        self.items: list[dict[str, Any]] = []
        self._tools = tools
        self._carried = carried
        self._kind = ""  # what grows: one of the above, or nothing
        self._said: list[str] = []
        self._logprobs: list[dict[str, Any]] = []  # a message's tokens have these
        self._told = 0  # so many of them have been in an event

    def read(self, event: ChatEvent, logprobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The events, without their numbers, that an event of a chat is; ``logprobs`` are those of its token."""
        found = self._grow(_REASONING, event.reasoning) if event.reasoning else []
        if event.text:
            found += self._grow(_TEXT, event.text, logprobs)
        elif self._kind == _TEXT:
            self._logprobs += logprobs
        if (call := event.tool_call) is not None:
            if call.id is not None:
                found += [*self._close("completed"), *self._begin_call(call)]
            found += self._grow(self._kind, call.arguments) if call.arguments else []
        return found

    def end(self, status: str) -> list[dict[str, Any]]:
        """The last ones; a response has an item at least."""
        begun = [] if self.items else self._begin(_TEXT)
        return [*begun, *self._close(status)]

    def _grow(self, kind: str, text: str, logprobs: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
        found = [] if self._kind == kind else [*self._close("completed"), *self._begin(kind)]
        self._said.append(text)
        self._logprobs += logprobs
        if kind == _INPUT:  # it is a text inside of JSON, which is read at its end
            return found
        more = {"logprobs": self._untold()} if kind == _TEXT else {}
        return [*found, self._event(f"response.{kind}.delta", delta=text, **more)]

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        if kind == _REASONING:
            item = {"type": "reasoning", "id": _id("rs"), "summary": [], "content": [], "status": "in_progress"}
        else:
            item = {"type": "message", "id": _id("msg"), "role": "assistant", "status": "in_progress", "content": []}
        added = self._add(kind, item)
        return [added, self._event("response.content_part.added", part=self._part())]

    def _begin_call(self, call: ToolCallDelta) -> list[dict[str, Any]]:
        name = call.name or ""
        if name in self._tools.custom:
            kind, item = _INPUT, {"type": "custom_tool_call", "id": _id("ctc"), "call_id": call.id, "name": name}
            item["input"] = ""
        else:
            kind, item = _ARGUMENTS, {"type": "function_call", "id": _id("fc"), "call_id": call.id, "name": name}
            item |= {"arguments": "", "status": "in_progress"}
        if name in self._tools.namespaces:
            item["namespace"] = self._tools.namespaces[name]
        return [self._add(kind, item)]

    def _add(self, kind: str, item: dict[str, Any]) -> dict[str, Any]:
        self._kind, self._said, self._logprobs, self._told = kind, [], [], 0
        self.items.append(item)
        return {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": {**item}}

    def _close(self, status: str) -> list[dict[str, Any]]:
        kind, text = self._kind, "".join(self._said)
        if not kind:
            return []
        item, found = self.items[-1], []
        if kind in (_REASONING, _TEXT):
            said: dict[str, Any] = {"text": text}
            if kind == _TEXT:
                said["logprobs"] = self._logprobs
            part = self._part(text, self._logprobs)
            found = [self._event(f"response.{kind}.done", **said), self._event("response.content_part.done", part=part)]
            item["content"] = [part]
            if kind == _REASONING and self._carried:
                item["encrypted_content"] = hidden(text)
        elif kind == _INPUT:
            item["input"] = text = _input_of(text)
            found = [
                self._event(f"response.{kind}.delta", delta=text),
                self._event(f"response.{kind}.done", input=text),
            ]
        else:
            item["arguments"] = text
            found = [self._event(f"response.{kind}.done", name=item["name"], arguments=text)]
        if "status" in item:
            item["status"] = status
        self._kind = ""
        return [*found, {"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": {**item}}]

    def _part(self, text: str = "", logprobs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        if self._kind == _REASONING:
            return {"type": _REASONING, "text": text}
        return {"type": _TEXT, "text": text, "annotations": [], "logprobs": logprobs or []}

    def _event(self, type: str, **more: Any) -> dict[str, Any]:
        """An event about the item that grows."""
        place = {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}
        if self._kind in (_REASONING, _TEXT):
            place["content_index"] = 0
        return {"type": type, **place, **more}

    def _untold(self) -> list[dict[str, Any]]:
        found, self._told = self._logprobs[self._told :], len(self._logprobs)
        return found


def _input_of(arguments: str) -> str:
    """The text that a custom tool gets."""
    try:
        found = read_json(arguments)[INPUT]
    except (ValueError, RecursionError, KeyError, TypeError):
        return arguments
    return found if isinstance(found, str) else arguments


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"
