"""What of messages a template would pass over in silence: roles that it does not know, and keys that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from llamaq.boundary.arguments import shown
from llamaq.chat.templates import ChatTemplate, choose_template
from llamaq.errors import naming

__all__ = ["check_read", "without_unread"]

_ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")


def check_read(messages: Sequence[Mapping[str, Any]], template: ChatTemplate) -> None:
    """Raises ``ValueError`` for a role that the template does not name beside the usual ones, and for a key with a
    value that neither it nor llamaq reads."""
    for number, message in enumerate(messages):
        role = message["role"]
        named = _words_behind("'\"", template.source)
        if role not in _ROLES and role.partition(" ")[0] not in named:  # Granite's: "document 1"
            wrong = f"message {number}: expected a role of {', '.join(_ROLES)}, or one that {template.name} names"
            raise naming(ValueError(f"{wrong}; got {shown(role)}"), "messages")
        for key in _unread(message, template):
            wrong = f"message {number}: nothing reads the key {shown(key)}, neither llamaq nor {template.name}"
            raise naming(ValueError(f"{wrong}; leave it out (what is read: {', '.join(_KEYS)})"), "messages")


def without_unread(
    metadata: Mapping[str, Any], messages: Sequence[Any], template: str | None = None, *, tools: bool = False
) -> tuple[list[Any], list[str]]:
    """The messages without what nothing reads, and the names of such keys, each once. ``template`` and ``tools``
    choose the template as for ``choose_template``."""
    chosen = choose_template(metadata, template, tools=tools)
    names: dict[str, None] = {}
    found = []
    for message in messages:
        unread = dict.fromkeys(_unread(message, chosen) if isinstance(message, Mapping) else ())
        names |= unread
        found.append({key: value for key, value in message.items() if key not in unread} if unread else message)
    return found, list(names)


def _unread(message: Mapping[str, Any], template: ChatTemplate) -> list[str]:
    """Keys whose values are not empty; SDKs send many that are (``refusal``, ``audio``, ``annotations``)."""
    said = (str(key) for key, value in message.items() if value and key not in _KEYS)
    named = _words_behind(".'\"", template.source)
    return [key for key in said if key not in named]


@lru_cache(32)
def _words_behind(marks: str, source: str) -> frozenset[str]:
    """The words that a template has behind one of these characters: as texts, or as attributes. They are found once,
    for a request may have as many keys as its body has room for."""
    return frozenset(re.findall(rf"[{marks}](\w+)", source))
