"""Which tools the model is shown, and whether it must call one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llamaq.boundary.arguments import shown
from llamaq.errors import naming

__all__ = ["ToolChoice", "ToolChoiceOption", "read_choice"]

Tools: TypeAlias = "tuple[Mapping[str, Any], ...]"
ToolChoiceOption: TypeAlias = "str | Mapping[str, Any]"


@dataclass(frozen=True)
class ToolChoice:
    """The model is shown ``tools``, and must call one of ``required`` where there are any."""

    tools: Tools
    required: Tools = ()


def read_choice(choice: ToolChoiceOption | None, tools: Sequence[Mapping[str, Any]]) -> ToolChoice:
    """What ``tool_choice`` says of tools in OpenAI's shape. Raises ``ValueError`` for what it cannot say."""
    given = tuple(tools)
    if choice is None or choice == "auto":
        return ToolChoice(given)
    if choice == "none":
        return ToolChoice(())
    if choice == "required":
        return ToolChoice(given, _some(given))
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        inner = choice.get("allowed_tools", choice)
        mode, names = (inner.get("mode"), inner.get("tools")) if isinstance(inner, Mapping) else (None, None)
        if mode in ("auto", "required") and isinstance(names, list) and names:
            allowed = [tool for each in names for tool in _called(_name(each), given)]
            kept = tuple(tool for tool in given if any(tool is each for each in allowed))
            return ToolChoice(kept, kept if mode == "required" else ())
        raise _wrong(choice)
    return ToolChoice(given, _called(_name(choice), given))


def _some(tools: Tools) -> Tools:
    if not tools:
        raise naming(ValueError("tool_choice is 'required', but there are no tools"), "tool_choice")
    return tools


def _name(choice: Any) -> str:
    """The tool that is named, in the form of chats or of responses, or by its bare name."""
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        choice = choice.get("function", choice)
        choice = choice.get("name") if isinstance(choice, Mapping) else None
    if not isinstance(choice, str):
        raise _wrong(choice)
    return choice


def _called(name: str, tools: Tools) -> Tools:
    """The tools of this name."""
    names = [tool.get("function", tool)["name"] for tool in tools]
    found = tuple(tool for tool, own in zip(tools, names, strict=True) if own == name)
    if not found:
        there = f"there are {', '.join(names)}" if names else "there are no tools"
        message = f"tool_choice names {shown(name)}, but {there} (or 'none', 'auto', 'required')"
        raise naming(ValueError(message), "tool_choice")
    return found


def _wrong(choice: Any) -> ValueError:
    expected = (
        "'none', 'auto', 'required', a tool's name, {'type': 'function', 'function': {'name': ...}}, or "
        "{'type': 'allowed_tools', 'allowed_tools': {'mode': 'auto' or 'required', 'tools': [...]}}"
    )
    return naming(ValueError(f"tool_choice must be {expected}; got {shown(choice)}"), "tool_choice")
