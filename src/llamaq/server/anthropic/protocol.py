"""The fields of Anthropic's requests."""

from __future__ import annotations

from typing import Any

from llamaq.boundary.arguments import INT32, shown
from llamaq.server.anthropic.conversation import read_messages, read_system
from llamaq.server.fields import Field, boolean, integer, list_of_texts, mapping, string, word
from llamaq.server.openai.protocol import SAMPLING

__all__ = ["COUNT", "MESSAGES", "PARTS"]

_MOST_TOOLS = 256

PARTS = {
    "thinking": ("type",), "output_config": ("effort", "format"),
    "tool_choice": ("type", "name", "disable_parallel_tool_use"),
}  # fmt: skip
"""What is honoured of fields that are objects."""


def _tools(name: str, value: Any) -> list[dict[str, Any]]:
    """Tools in OpenAI's shape."""
    if not isinstance(value, list) or len(value) > _MOST_TOOLS:
        raise ValueError(f"{name} must be a list of at most {_MOST_TOOLS} tools, got {shown(value)}")
    return [_tool(f"{name}[{i}]", tool) for i, tool in enumerate(value)]


def _tool(where: str, tool: Any) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in (None, "custom"):
        raise ValueError(f"{where} is one of Anthropic's own, which need a model that knows them; got {shown(kind)}")
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise ValueError(f'{where} must be {{"name": ..., "input_schema": {{...}}}}, got {shown(tool)}')
    function = {"name": tool["name"], "parameters": mapping(f"{where}.input_schema", tool.get("input_schema"))}
    if tool.get("description") is not None:
        function["description"] = string(f"{where}.description", tool["description"])
    return {"type": "function", "function": function}


def _tool_choice(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    word("auto", "any", "tool", "none")(f"{name}.type", found.get("type"))
    boolean(f"{name}.disable_parallel_tool_use", found.get("disable_parallel_tool_use") or False)
    if found["type"] == "tool":
        string(f"{name}.name", found.get("name"))
    return found


def _thinking(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    word("enabled", "disabled", "adaptive", "between_tools")(f"{name}.type", found.get("type"))
    return found


def _output_config(name: str, value: Any) -> dict[str, Any]:
    found = {key: item for key, item in mapping(name, value).items() if item is not None}
    if "effort" in found:
        word("low", "medium", "high", "xhigh", "max")(f"{name}.effort", found["effort"])
    if "format" in found:
        _format(f"{name}.format", found["format"])
    return found


def _format(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    word("json_schema")(f"{name}.type", found.get("type"))
    mapping(f"{name}.schema", found.get("schema"))
    return found


_PROMPT = (
    Field("model", "one of the server's names; Anthropic's own (`claude-...`) mean its only one; need not be given",
          string),
    Field("messages", "blocks of text, images in base64 (in results, too), documents that are texts, tool_use, "
          "tool_result, thinking; the last may be the beginning of the answer", read_messages),
    Field("system", "a text or blocks of text", read_system),
    Field("tools", "those with an `input_schema`", _tools),
    Field("tool_choice", "`auto`, `any`, `tool`, `none`; with `disable_parallel_tool_use` the answer ends after one "
          "call", _tool_choice),
    Field("thinking", "`enabled` and `disabled` are the template's variable `enable_thinking`, the others leave it as "
          "it is; `budget_tokens` and `display` are ignored", _thinking),
    Field("output_config", "`format` holds after the reasoning; `effort` is the template's variable "
          "`reasoning_effort`", _output_config),
    Field("output_format", "the older place of `output_config.format`", _format),
    Field("mcp_servers", "this server calls no others", neutral=([],)),
    Field("cache_control", "what was read is always reused"),
    Field("context_management", "nothing is taken out of what is sent"),
    Field("speed", "there is one"),
)  # fmt: skip

MESSAGES = (
    *_PROMPT,
    Field("max_tokens", "must be given; 0 reads the prompt alone", integer(0, INT32)),
    Field("stream", "server-sent events", boolean),
    Field("stop_sequences", "up to 64; `stop_sequence` tells which one came", list_of_texts(64, 1024)),
    *SAMPLING,
    Field("metadata", "nothing is kept of who asks"),
    Field("user_profile_id", "nothing is kept of who asks"),
    Field("workspace_id", "nothing is kept of who asks"),
    Field("service_tier", "there is one"),
    Field("inference_geo", "it is where the server is"),
    Field("container", "nothing runs but the model"),
    Field("diagnostics", "the header `x-llamaq-ignored` and the log tell what there is"),
)

COUNT = _PROMPT
