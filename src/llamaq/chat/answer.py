"""Events of a text become those of a chat: reasoning, answer and tool calls are told apart, then put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llamaq.chat.json_text import read_json
from llamaq.chat.messages import ChatEvent, ChatFinishReason, ChatMessage, ToolCall
from llamaq.chat.reasoning import Beginning, ReasoningSplitter

if TYPE_CHECKING:
    from llamaq.chat.tools import ToolReader
    from llamaq.serving.answer import Event

__all__ = ["AnswerReader"]


class AnswerReader:
    """Reads the events of an answer; ``message`` is what they amount to so far.

    ``beginning`` is how the answer begins, ``tools`` the reader of calls where the model was given tools. With
    ``one_call`` the answer ends where a second one would begin.
    """

    def __init__(self, beginning: Beginning, tools: ToolReader | None = None, one_call: bool = False) -> None:
        if tools is not None and tools.reasons:
            beginning = replace(beginning, may_open=False)
        self._splitter = ReasoningSplitter(beginning)
        self._tools = tools
        self._one_call = one_call
        self.tokens = 0
        """Tokens that have been read."""
        self.reasoning_tokens = 0
        """Those of them that the reasoning took, with its marks."""
        self.cut = False
        """Whether it ended before a second call."""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []

    def read(self, event: Event) -> list[ChatEvent]:
        """One chat event at least; the last of an answer has the finish reason."""
        self.tokens += event.token is not None
        pieces = self._pieces(event.text, event.finish_reason)
        reason: ChatFinishReason | None = event.finish_reason
        if self._one_call and (second := _second_call(pieces)) is not None:
            pieces, reason, self.cut = pieces[:second], "stop", True
        pieces = pieces or [ChatEvent()]
        for piece in pieces:
            self._keep(piece)
        if any(piece.reasoning for piece in pieces):
            self.reasoning_tokens = self.tokens
        if reason == "stop" and self._calls and self.message.tool_calls:
            reason = "tool_calls"
        first = pieces[0]
        pieces[0] = ChatEvent(
            first.text, first.reasoning, first.tool_call, event.token, event.logprob, event.top_logprobs
        )
        if reason is not None:
            pieces[-1] = replace(pieces[-1], finish_reason=reason, stop=event.stop)
        return pieces

    @property
    def message(self) -> ChatMessage:
        """The assistant's message. A call whose arguments are no JSON object, such as one that was cut off, is text."""
        calls: list[ToolCall] = []
        text = "".join(self._text)
        for id, name, parts in self._calls:
            arguments = _arguments("".join(parts))
            if arguments is None:
                text += name + "".join(parts)
            else:
                calls.append(ToolCall(id, name, arguments))
        return ChatMessage("assistant", text, "".join(self._reasoning), tuple(calls))

    def _pieces(self, text: str, reason: ChatFinishReason | None) -> list[ChatEvent]:
        parts = [self._splitter.push(text), *([] if reason is None else [self._splitter.flush()])]
        reasoning, answer = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
        found = [ChatEvent(reasoning=reasoning)] if reasoning else []
        if self._tools is None:
            return [*found, ChatEvent(text=answer)] if answer else found
        found += self._tools.push(answer)
        if reason is not None:
            found += self._tools.flush(cut=reason != "stop")
        return found

    def _keep(self, event: ChatEvent) -> None:
        self._text.append(event.text)
        self._reasoning.append(event.reasoning)
        if (delta := event.tool_call) is not None:
            if delta.id is not None:
                self._calls.append((delta.id, delta.name or "", []))
            self._calls[-1][2].append(delta.arguments)


def _second_call(pieces: Sequence[ChatEvent]) -> int | None:
    """Where it begins."""
    found = (i for i, piece in enumerate(pieces) if piece.tool_call is not None and piece.tool_call.index > 0)
    return next(found, None)


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        found = read_json(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
