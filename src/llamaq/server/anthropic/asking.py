"""What messages and their counting make of the same fields."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llamaq.errors import LlamaqError
from llamaq.server.anthropic.protocol import PARTS
from llamaq.server.errors import Refusal
from llamaq.server.fields import extra_keys

if TYPE_CHECKING:
    from llamaq.chat.options import PromptOptions
    from llamaq.chat.tools import ToolChoiceOption
    from llamaq.server.models import Models
    from llamaq.server.settings import Settings
    from llamaq.structure import Structure

__all__ = ["conversation_of", "model_of", "needed", "prompt_options", "structure_of", "unused_parts"]

_THEIRS = "claude-"


def needed(values: Mapping[str, Any], *names: str) -> None:
    """Raises ``Refusal`` where one of these fields is missing."""
    for name in names:
        if name not in values:
            raise Refusal(400, f"{name} is missing", param=name)


def model_of(values: Mapping[str, Any], models: Models) -> str | None:
    """The model that is asked for. Agents ask for Anthropic's own whatever the server has: they mean its only one."""
    name: str | None = values.get("model")
    for meant in (name, None) if name is not None and name.startswith(_THEIRS) else ():
        with suppress(Refusal):
            models.find(meant)
            return meant
    return name


def unused_parts(values: Mapping[str, Any], body: Mapping[str, Any], *, strict: bool) -> list[str]:
    """What is ignored within fields that are honoured. Raises ``Refusal`` with ``strict`` for keys of messages."""
    unused = [f"{name}.{key}" for name, used in PARTS.items() for key in values.get(name, ()) if key not in used]
    return [*unused, *extra_keys("messages", body.get("messages"), ("role", "content"), strict=strict)]


def conversation_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages, the system's first."""
    system = values.get("system")
    return [*([{"role": "system", "content": system}] if system else []), *values["messages"]]


def prompt_options(values: Mapping[str, Any], settings: Settings) -> PromptOptions:
    """Tools, template and its variables."""
    variables: dict[str, Any] = dict(settings.template_kwargs)
    if (thinking := values.get("thinking", {}).get("type")) in ("enabled", "disabled"):
        variables["enable_thinking"] = thinking == "enabled"
    if (effort := values.get("output_config", {}).get("effort")) is not None:
        variables["reasoning_effort"] = effort
    return {
        "tools": values.get("tools"), "tool_choice": _tool_choice(values.get("tool_choice", {"type": "auto"})),
        "template": settings.template, "template_kwargs": variables,
    }  # fmt: skip


def structure_of(values: Mapping[str, Any]) -> Structure | None:
    """What the answer must match. Raises ``Refusal``."""
    name = "output_config" if "format" in values.get("output_config", {}) else "output_format"
    format = values.get("output_config", {}).get("format") or values.get("output_format")
    if format is None:
        return None
    from llamaq.structure import json_schema

    try:
        return json_schema(format["schema"])
    except (LlamaqError, TypeError, ValueError) as error:
        raise Refusal(400, f"{name}: {error}", param=name) from None


def _tool_choice(choice: Mapping[str, Any]) -> ToolChoiceOption:
    """In OpenAI's shape."""
    if choice["type"] == "tool":
        return {"type": "function", "function": {"name": choice["name"]}}
    return "required" if choice["type"] == "any" else str(choice["type"])
