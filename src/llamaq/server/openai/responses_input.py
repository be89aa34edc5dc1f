"""What a request for a response brings: items that become messages, and tools."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llamaq.boundary.arguments import shown

__all__ = ["INPUT", "ResponseTools", "hidden", "read_input", "read_tools"]

_MOST_ITEMS = 10_000
_MOST_TOOLS = 256
_ROLES = ("system", "developer", "user", "assistant")
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "summary_text": "text",
          "reasoning_text": "text", "refusal": "refusal"}  # fmt: skip
_OURS = "llamaq:"
"""What reasoning begins with that a client carries for us; it is no secret, and not encrypted."""
INPUT = "input"
"""The one parameter of a custom tool, as the model sees it."""


def hidden(reasoning: str) -> str:
    """Reasoning as ``encrypted_content``, which clients that keep it send back."""
    return _OURS + base64.b64encode(reasoning.encode()).decode("ascii")


def read_input(name: str, value: Any) -> list[dict[str, Any]]:
    """Messages as the library takes them. Raises ``ValueError`` for items that are none."""
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(items, list) or not 0 < len(items) <= _MOST_ITEMS:
        raise ValueError(f"{name} must be a text or a list of 1 to {_MOST_ITEMS} items, got {shown(value)}")
    conversation = _Conversation()
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValueError(f"{name}[{i}] must be an object, got {shown(item)}")
        conversation.add(f"{name}[{i}]", item)
    return conversation.messages


class _Conversation:
    """Reasoning, an answer and calls that follow one another are one message of the assistant."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}  # call id: the tool's name
        self._turn: dict[str, Any] | None = None

    def add(self, where: str, item: Mapping[str, Any]) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._message(where, item)
        elif kind == "reasoning":
            if text := _reasoning(where, item):
                self._assistant("reasoning_content")["reasoning_content"] = text
        elif kind in ("function_call", "custom_tool_call"):
            self._call(where, item, kind == "custom_tool_call")
        elif kind in ("function_call_output", "custom_tool_call_output"):
            id = _word(where, item, "call_id")
            name = {"name": self._names[id]} if id in self._names else {}
            content = _text(f"{where}.output", item.get("output"))
            self._add({"role": "tool", "tool_call_id": id, "content": content, **name})
        else:
            raise ValueError(f"{where}.type is {shown(kind)}, which this server does not take")

    def _message(self, where: str, item: Mapping[str, Any]) -> None:
        role = item.get("role")
        content = (_content if role == "user" else _text)(f"{where}.content", item.get("content"))
        if role not in _ROLES:
            raise ValueError(f"{where}.role must be one of {', '.join(_ROLES)}, got {shown(role)}")
        if role == "assistant":
            self._assistant("content")["content"] = content
        else:
            self._add({"role": role, "content": content})

    def _call(self, where: str, item: Mapping[str, Any], custom: bool) -> None:
        id, name = _word(where, item, "call_id"), _word(where, item, "name")
        arguments: Any = _word(where, item, "input" if custom else "arguments")
        self._names[id] = name
        call = {"name": name, "arguments": {INPUT: arguments} if custom else arguments}
        calls = self._assistant().setdefault("tool_calls", [])
        calls.append({"id": id, "type": "function", "function": call})

    def _add(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._turn = None

    def _assistant(self, key: str = "") -> dict[str, Any]:
        """The assistant's message that goes on: one that has no ``key`` yet, and no calls where that comes first."""
        turn = self._turn
        if turn is None or (key and (turn.get(key) or turn.get("tool_calls") or turn["content"])):
            self._add({"role": "assistant", "content": ""})
            turn = self._turn = self.messages[-1]
        return turn


def _reasoning(where: str, item: Mapping[str, Any]) -> str:
    for key in ("content", "summary"):
        if item.get(key):
            return _text(f"{where}.{key}", item[key])
    code = item.get("encrypted_content")
    if not isinstance(code, str) or not code.startswith(_OURS):  # another server's: nothing can be read
        return ""
    try:
        return base64.b64decode(code[len(_OURS) :], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(f"{where}.encrypted_content is not as this server gave it") from None


def _content(where: str, content: Any) -> str | list[dict[str, Any]]:
    """What a user says and shows: a text, or with pictures a list of parts."""
    if not isinstance(content, list) or not any(_is_picture(part) for part in content):
        return _text(where, content)
    return [_picture(f"{where}[{i}]", part) if _is_picture(part) else {"type": "text", "text": _text(where, [part])}
            for i, part in enumerate(content)]  # fmt: skip


def _is_picture(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "input_image"


def _picture(where: str, part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("image_url") is None:
        raise ValueError(f"{where}.image_url must be a data URL with the picture, for this server keeps no files")
    return {"type": "image_url", "image_url": part["image_url"]}


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{where} must be a text or a list of parts, got {shown(content)}")
    texts = []
    for i, part in enumerate(content):
        key = _TEXTS.get(str(part.get("type"))) if isinstance(part, dict) else None
        if key is None or not isinstance(part.get(key), str):
            wrong = 'must be {"type": "input_text", "text": ...}, or input_image in a message of the user'
            raise ValueError(f"{where}[{i}] {wrong}; got {shown(part)}")
        texts.append(part[key])
    return "".join(texts)


def _word(where: str, item: Mapping[str, Any], key: str) -> str:
    if not isinstance(item.get(key), str):
        raise ValueError(f"{where}.{key} must be a text, got {shown(item.get(key))}")
    return str(item[key])


@dataclass
class ResponseTools:
    """Tools as the library takes them; ``custom`` names those that get a text, ``namespaces`` where the others are
    from, ``skipped`` what cannot be had here; ``given`` are all, as answers repeat them."""

    given: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    custom: set[str] = field(default_factory=set)
    namespaces: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add(self, where: str, tool: Any, namespace: str | None = None) -> None:
        if not isinstance(tool, dict):
            raise ValueError(f"{where} must be an object, got {shown(tool)}")
        kind = tool.get("type")
        if kind == "namespace" and isinstance(tool.get("tools"), list) and namespace is None:
            name = _word(where, tool, "name")
            for i, inner in enumerate(tool["tools"]):
                self.add(f"{where}.tools[{i}]", inner, name)
        elif kind in ("function", "custom"):
            self._show(where, tool, kind == "custom")
            if namespace is not None:
                self.namespaces[tool["name"]] = namespace
        else:
            self.skipped.append(f"{where}.{kind}" if isinstance(kind, str) else where)

    def _show(self, where: str, tool: Mapping[str, Any], custom: bool) -> None:
        name, about, schema = _word(where, tool, "name"), tool.get("description") or "", tool.get("parameters") or {}
        if not isinstance(about, str) or not isinstance(schema, dict):
            raise ValueError(f"{where} must have a text as description and a JSON schema as parameters")
        if custom:
            self.custom.add(name)
            schema = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}
            format = tool.get("format")
            if isinstance(format, dict) and isinstance(format.get("definition"), str):
                about = f"{about}\nThe input must match this grammar:\n{format['definition']}".strip()
                self.skipped.append(f"{where}.format")
        self.shown.append({"type": "function", "function": {"name": name, "description": about, "parameters": schema}})
        if len(self.shown) > _MOST_TOOLS:
            raise ValueError(f"tools must be at most {_MOST_TOOLS}")


def read_tools(name: str, value: Any) -> ResponseTools:
    """Raises ``ValueError`` for what is no list of tools. Kinds that are run by OpenAI's servers are skipped."""
    if not isinstance(value, list) or len(value) > _MOST_TOOLS:
        raise ValueError(f"{name} must be a list of at most {_MOST_TOOLS} tools, got {shown(value)}")
    found = ResponseTools()
    for i, tool in enumerate(value):
        found.add(f"{name}[{i}]", tool)
        absent = {"parameters": None, "strict": None} if tool.get("type") == "function" else {}
        found.given.append({**absent, **tool})
    return found
