"""What a request for a response has within its fields that nothing reads: it is ignored, and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.server.fields import extra_keys
from llamaq.server.openai.responses_input import hidden

__all__ = ["unread"]

_OF_ANY = ("type", "id", "status")  # an item that comes back has them, and they ask for nothing
_CALL = ("call_id", "name", "namespace")
_OUTPUT = ("call_id", "output")
_ITEMS = {
    "message": ("role", "content"),
    "reasoning": ("content", "summary", "encrypted_content"),
    "function_call": (*_CALL, "arguments"),
    "custom_tool_call": (*_CALL, "input"),
    "function_call_output": _OUTPUT,
    "custom_tool_call_output": _OUTPUT,
}
_PARTS = ("type", "text", "refusal", "image_url", "annotations", "logprobs")
_LISTS = ("content", "summary", "output")  # of parts
_FIELDS = {"text": ("format",), "reasoning": ("effort",)}


def unread(body: Mapping[str, Any], *, strict: bool) -> list[str]:
    """Names of keys with a value, as `extra_keys` gives them, of a body whose fields were read. With ``strict`` those
    of items and of their parts raise ``Refusal``."""
    items = body["input"] if isinstance(body["input"], list) else []
    names: list[str] = []
    for kind, known in _ITEMS.items():
        of_kind = [item for item in items if item.get("type", "message") == kind]
        names += extra_keys("input", of_kind, (*_OF_ANY, *known), strict=strict)
        for key in _LISTS:
            parts = [part for item in of_kind if isinstance(item.get(key), list) for part in item[key]]
            names += extra_keys(f"input.{key}", parts, _PARTS, strict=strict)
    names += ["input.encrypted_content"] if any(map(_is_foreign, items)) else []
    for name, known in _FIELDS.items():
        names += extra_keys(name, [body.get(name)], known, strict=False)
    return list(dict.fromkeys(names))


def _is_foreign(item: Mapping[str, Any]) -> bool:
    """Whether it is reasoning that another server has hidden, and nobody else can read."""
    code = item.get("encrypted_content")
    readable = item.get("content") or item.get("summary") or (isinstance(code, str) and code.startswith(hidden("")))
    return item.get("type") == "reasoning" and bool(code) and not readable
