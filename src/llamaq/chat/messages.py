"""Messages, tool calls and answers as typed values, and the plain dicts that templates read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llamaq.boundary.arguments import items
from llamaq.chat.pictures import PICTURE_TYPES, picture_in
from llamaq.errors import ReceiptError, naming
from llamaq.serving.said import Said

if TYPE_CHECKING:
    from llamaq.serving.receipt import Receipt
    from llamaq.serving.stream import Usage
    from llamaq.vision.preprocess import PictureSource

__all__ = [
    "ChatCompletion",
    "ChatEvent",
    "ChatFinishReason",
    "ChatMessage",
    "ToolCall",
    "ToolCallDelta",
    "message_dicts",
    "with_system",
]

_EXAMPLE = 'such as [{"role": "user", "content": "Hello"}]'

ChatFinishReason = Literal["stop", "length", "context", "cancelled", "tool_calls"]


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for; send its result as a message of role "tool" with ``tool_call_id`` its ``id``."""

    id: str
    name: str
    arguments: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The call in OpenAI's shape, but with the arguments as an object."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class ChatMessage:
    """A turn of a conversation. ``reasoning`` is what the model wrote for itself before its answer."""

    role: str
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    pictures: tuple[PictureSource, ...] = field(default=(), compare=False)
    """What a user shows before the text; the model needs a projector."""

    def to_dict(self) -> dict[str, Any]:
        """The message in OpenAI's shape, with ``reasoning_content``; tool arguments are objects, as in templates."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.pictures:
            shown: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in self.pictures]
            found["content"] = [*shown, {"type": "text", "text": self.content}]
        if self.reasoning:
            found["reasoning_content"] = self.reasoning
        if self.tool_calls:
            found["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        optional = {"tool_call_id": self.tool_call_id, "name": self.name}
        return found | {key: value for key, value in optional.items() if value is not None}


@dataclass(frozen=True)
class ToolCallDelta:
    """A piece of a tool call: the first of each has ``id`` and ``name``; ``arguments`` joined are JSON."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class ChatEvent:
    """A piece of an answer: of its ``text``, of the ``reasoning`` before it, or of a tool call.

    ``token`` and the log-probabilities are those of the token behind it (None where one token gave several pieces, or
    held text is let go). ``finish_reason`` is set in the last event, and ``stop`` where a stop string ended the answer.
    """

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    token: int | None = None
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    finish_reason: ChatFinishReason | None = None
    stop: str | None = None


@dataclass(frozen=True)
class ChatCompletion(Said):
    """A whole answer, printed as its text; ``message`` can be appended to the conversation as it is. Where that ended
    with the beginning of the answer, ``message`` is what follows. ``stop`` is the stop string that ended it, which may
    be the template's."""

    message: ChatMessage
    finish_reason: ChatFinishReason
    usage: Usage
    seed: int
    stop: str | None = None
    recorded: Callable[[], Receipt] | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        return self.message.content

    def receipt(self) -> Receipt:
        """As ``Completion.receipt``."""
        if self.recorded is None:
            raise ReceiptError("the answer was not recorded; ask for it with receipt=True")
        return self.recorded()


def with_system(
    messages: Sequence[ChatMessage | Mapping[str, Any]], system: str
) -> Sequence[ChatMessage | Mapping[str, Any]]:
    """The messages, after a system message where there is one to put before those that have none."""
    if not system or isinstance(messages, str | bytes | Mapping):
        return messages
    found = items("messages", messages, "messages")
    roles = [each.get("role") if isinstance(each, Mapping) else getattr(each, "role", None) for each in found]
    return found if "system" in roles or "developer" in roles else [ChatMessage("system", system), *found]


def message_dicts(
    messages: Sequence[ChatMessage | Mapping[str, Any]], pictures: list[Any] | None = None
) -> list[dict[str, Any]]:
    """What templates read: contents as text, tool arguments as objects; of messages with tool calls the content may be
    None. Where ``pictures`` are wanted, a message with some has a list of parts ``{"type": "text", "text": ...}`` and
    ``{"type": "image"}``, and they are added to the list in their order.

    Raises ``ValueError`` for a message without a role, content that is no text, arguments that are no JSON.
    """
    if isinstance(messages, str | bytes | Mapping):
        raise naming(ValueError(f"messages must be a list, {_EXAMPLE}"), "messages")
    found = items("messages", messages, "messages")
    if not found:
        raise naming(ValueError(f"messages must hold one at least, {_EXAMPLE}"), "messages")
    return [_message_dict(message, f"message {number}", pictures) for number, message in enumerate(found)]


def _message_dict(message: ChatMessage | Mapping[str, Any], where: str, pictures: list[Any] | None) -> dict[str, Any]:
    if isinstance(message, ChatMessage) and not message.pictures:
        return message.to_dict()
    message = message.to_dict() if isinstance(message, ChatMessage) else message
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f'{where}: expected a dict with a "role" and "content", got {message!r:.100}')
    found = dict(message)
    calls = found.pop("tool_calls", None)
    calls = [] if calls is None else items(f"{where}: tool_calls", calls, "tool calls")
    content = found.get("content")
    found["content"] = None if content is None and calls else _content(content, where, pictures)
    if isinstance(found["content"], list) and found["role"] != "user":
        raise ValueError(f"{where}: pictures stand in messages of the role user, got {found['role']!r:.40}")
    if calls:
        found["tool_calls"] = [_call_dict(call, where) for call in calls]
    return found


def _content(content: Any, where: str, pictures: list[Any] | None) -> str | list[dict[str, Any]]:
    """The text of a content, which may be a list of parts ``{"type": "text", "text": ...}``; with pictures among them,
    which are added to ``pictures``, a list for templates."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, list) else [None]:
        if not isinstance(part, Mapping):
            part = {}
        picture = picture_in(part) if part.get("type") in PICTURE_TYPES else None
        if picture is not None and pictures is not None:
            pictures.append(picture)
            parts.append({"type": "image"})
        elif isinstance(text := part.get("text"), str):
            parts.append({"type": "text", "text": text})
        else:
            kinds = "text parts" if pictures is None else "text parts and pictures"
            raise ValueError(f"{where}: the content must be text, or a list of {kinds}, got {content!r:.100}")
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "".join(texts) if len(texts) == len(parts) else parts


def _call_dict(call: Any, where: str) -> dict[str, Any]:
    if isinstance(call, ToolCall):
        return call.to_dict()
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError(f'{where}: a tool call needs a "function" with a "name" and "arguments", got {call!r:.100}')
    arguments = {} if function.get("arguments") is None else function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: the arguments of {function['name']} are no JSON: {error}") from None
    return {**call, "function": {**function, "arguments": arguments}}
