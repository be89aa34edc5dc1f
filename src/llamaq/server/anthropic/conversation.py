"""Conversations of content blocks become messages as the library has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, TypeAlias

from llamaq.boundary.arguments import shown

__all__ = ["read_messages", "read_system"]

Piece: TypeAlias = tuple[str, Any]
"""The kind of a block, and what it says."""
BlockReader: TypeAlias = Callable[[str, Mapping[str, Any]], Piece]

_MOST_MESSAGES = 10_000
_ROLES = ("user", "assistant", "system")
_ATTRIBUTION = "x-anthropic-billing-header:"
"""Begins a line that agents put before their system text. It differs each time, so that nothing after it could come
from the cache."""


def read_system(name: str, value: Any) -> str:
    """A text, or blocks of text."""
    texts = [text for _, text in _pieces(name, value, {"text": _text})]
    return "\n".join(text for each in texts if (text := _without_attribution(each)))


def read_messages(name: str, value: Any) -> list[dict[str, Any]]:
    """Turns that follow one another of the same role are one. Results of tools become messages of their own. Raises
    ``TypeError`` and ``ValueError``."""
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_MESSAGES:
        raise ValueError(f"{name} must be a list of 1 to {_MOST_MESSAGES} messages, got {shown(value)}")
    turns: list[tuple[str, list[Piece]]] = []
    for i, message in enumerate(value):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            raise ValueError(f"{name}[{i}] must be an object with a role of {', '.join(_ROLES)}, got {shown(message)}")
        role = "assistant" if role == "assistant" else "user"  # templates take the role system at the beginning alone
        pieces = _pieces(f"{name}[{i}].content", message.get("content"), _BLOCKS[role])
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(pieces)
        else:
            turns.append((role, pieces))
    tools: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for role, pieces in turns:
        found += _said(pieces, tools) if role == "user" else [_answer(pieces, tools)]
    return found


def _said(pieces: list[Piece], tools: Mapping[str, str]) -> list[dict[str, Any]]:
    """A turn of the user. ``tools`` are the names of those that were called, by the ids of the calls. Pictures in
    results come behind these, for templates show none within."""
    found: list[dict[str, Any]] = []
    pictures: list[Any] = []
    for is_result, group in groupby(pieces or [("text", "")], lambda piece: piece[0] == "result"):
        values = [value for _, value in group]
        if not is_result:
            found.append({"role": "user", "content": _shown_and_said([*pictures, *values])})
            pictures = []
            continue
        for value in values:
            pictures += value.pop("pictures")
            named = {"name": tools[value["tool_call_id"]]} if value["tool_call_id"] in tools else {}
            found.append({"role": "tool", **value, **named})
    return [*found, {"role": "user", "content": pictures}] if pictures else found


def _shown_and_said(values: list[Any]) -> str | list[dict[str, Any]]:
    """Texts as one, or in a list with pictures."""
    if all(isinstance(value, str) for value in values):
        return "\n".join(values)
    return [{"type": "text", "text": value} if isinstance(value, str) else value for value in values]


def _answer(pieces: list[Piece], tools: dict[str, str]) -> dict[str, Any]:
    """A turn of the assistant, whose calls ``tools`` gets to know."""
    parts: dict[str, list[Any]] = {kind: [] for kind in ("text", "thought", "call")}
    for kind, value in pieces:
        parts[kind].append(value)
    found: dict[str, Any] = {"role": "assistant", "content": "".join(parts["text"])}
    if any(parts["thought"]):
        found["reasoning_content"] = "".join(parts["thought"])
    if calls := parts["call"]:
        tools.update({call["id"]: call["function"]["name"] for call in calls})
        found |= {"tool_calls": calls, "content": found["content"] or None}
    return found


def _pieces(name: str, content: Any, blocks: Mapping[str, BlockReader]) -> list[Piece]:
    if isinstance(content, str):
        return [("text", content)]
    if not isinstance(content, list):
        raise TypeError(f"{name} must be a text or a list of blocks, got {shown(content)}")
    found = []
    for k, block in enumerate(content):
        where, kind = f"{name}[{k}]", block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in blocks:
            raise ValueError(f"{where} must be a block of the type {' or '.join(blocks)}, got {shown(block)}")
        found.append(blocks[kind](where, block))
    return found


def _field(where: str, block: Mapping[str, Any], name: str, kind: type = str) -> Any:
    value = block.get(name)
    if not isinstance(value, kind):
        raise TypeError(f"{where}.{name} must be {'a text' if kind is str else 'an object'}, got {shown(value)}")
    return value


def _text(where: str, block: Mapping[str, Any]) -> Piece:
    return "text", _field(where, block, "text")


def _document(where: str, block: Mapping[str, Any]) -> Piece:
    source = _field(where, block, "source", dict)
    if source.get("type") == "text":
        text = _field(f"{where}.source", source, "data")
    elif source.get("type") == "content":
        text = _joined(f"{where}.source.content", source.get("content"))
    else:
        raise ValueError(f"{where}.source must be of the type text or content: this server reads no other documents")
    title = block.get("title")
    return "text", f"{title}\n{text}" if isinstance(title, str) else text


def _image(where: str, block: Mapping[str, Any]) -> Piece:
    source = _field(where, block, "source", dict)
    if source.get("type") != "base64":
        raise ValueError(f"{where}.source must be of the type base64: this server fetches nothing")
    data = _field(f"{where}.source", source, "data")
    return "image", {"type": "image_url", "image_url": f"data:;base64,{data}"}


def _result(where: str, block: Mapping[str, Any]) -> Piece:
    pieces = _pieces(f"{where}.content", block.get("content") or "", {**_TEXTS, "image": _image})
    content = "\n".join(value for kind, value in pieces if kind == "text")
    failed = "Error: " if block.get("is_error") is True else ""
    return "result", {
        "tool_call_id": _field(where, block, "tool_use_id"), "content": failed + content,
        "pictures": [value for kind, value in pieces if kind == "image"],
    }  # fmt: skip


def _call(where: str, block: Mapping[str, Any]) -> Piece:
    function = {"name": _field(where, block, "name"), "arguments": _field(where, block, "input", dict)}
    return "call", {"id": _field(where, block, "id"), "type": "function", "function": function}


def _thought(where: str, block: Mapping[str, Any]) -> Piece:
    return "thought", _field(where, block, "thinking")


def _hidden_thought(where: str, block: Mapping[str, Any]) -> Piece:
    return "thought", ""


def _joined(name: str, content: Any) -> str:
    return "\n".join(text for _, text in _pieces(name, content, _TEXTS))


def _without_attribution(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(_ATTRIBUTION) else text


_TEXTS: dict[str, BlockReader] = {"text": _text, "document": _document}
_BLOCKS: dict[str, dict[str, BlockReader]] = {
    "user": {**_TEXTS, "image": _image, "tool_result": _result},
    "assistant": {"text": _text, "tool_use": _call, "thinking": _thought, "redacted_thinking": _hidden_thought},
}
