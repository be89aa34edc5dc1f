"""The fields of requests for responses."""

from __future__ import annotations

from typing import Any

from llamaq.boundary.arguments import INT32, shown
from llamaq.server.fields import Field, any_value, boolean, integer, mapping, string, word
from llamaq.server.openai.protocol import SAMPLING
from llamaq.server.openai.responses_input import read_input, read_tools

__all__ = ["RESPONSE"]

_EFFORTS = word("none", "minimal", "low", "medium", "high", "xhigh", "max")
_KEEPS = "this server keeps no responses; send the whole input"


def _text(name: str, value: Any) -> dict[str, Any]:
    """The format of the answer, in the form that chats have for it."""
    found = mapping(f"{name}.format", mapping(name, value).get("format") or {"type": "text"})
    word("text", "json_object", "json_schema")(f"{name}.format.type", found.get("type"))
    if found["type"] != "json_schema":
        return {"type": found["type"], "given": found}
    if not isinstance(found.get("schema"), dict | bool):
        raise ValueError(f"{name}.format.schema must be a JSON schema, got {shown(found.get('schema'))}")
    return {"type": "json_schema", "json_schema": {"schema": found["schema"]}, "given": found}


def _reasoning(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    if found.get("effort") is not None:
        _EFFORTS(f"{name}.effort", found["effort"])
    return found


def _include(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of texts, got {shown(value)}")
    return value


RESPONSE = (
    Field("input", "a text, or items: messages of text and pictures, calls and their outputs, reasoning", read_input),
    Field("instructions", "a system message before the input", string),
    Field("model", "one of the server's names; need not be given", string),
    Field("stream", "server-sent events", boolean),
    Field("max_output_tokens", "until the end of answer or context where not given", integer(1, INT32)),
    *SAMPLING,
    Field("tools", "`function`, `custom` (a grammar is told, not enforced), `namespace`; others are skipped",
          read_tools),
    Field("tool_choice", "as in chat", any_value),
    Field("parallel_tool_calls", "false: the answer has one call at most", boolean),
    Field("text", "`format`: `text`, `json_object`, `json_schema`; `verbosity` is ignored", _text),
    Field("reasoning", "`effort`: the template's variable; `summary` is ignored", _reasoning),
    Field("truncation", "`auto` leaves out the oldest tokens of a prompt that is too long", word("auto", "disabled")),
    Field("include", "`message.output_text.logprobs`; `reasoning.encrypted_content`, which is not encrypted here",
          _include),
    Field("top_logprobs", "0 to 20, with `include`", integer(0, 20)),
    Field("metadata", "repeated in the answer, not stored", mapping),
    Field("chat_template_kwargs", "variables of the template", mapping),
    Field("previous_response_id", _KEEPS, neutral=()),
    Field("conversation", _KEEPS, neutral=()),
    Field("background", _KEEPS, neutral=(False,)),
    Field("prompt", "this server keeps no prompts", neutral=()),
    Field("context_management", "what is too long is refused, or cut by `truncation`", neutral=([],)),
    Field("moderation", "this server does not moderate", neutral=()),
    Field("store", "nothing is stored"),
    Field("user", "nothing is kept of who asks"),
    Field("safety_identifier", "nothing is kept of who asks"),
    Field("service_tier", "there is one"),
    Field("prompt_cache_key", "what was read is always reused"),
    Field("prompt_cache_options", "what was read is always reused"),
    Field("prompt_cache_retention", "what was read is always reused"),
    Field("max_tool_calls", "no tools run here"),
    Field("stream_options", "nothing is padded"),
    Field("access_programs", "there are none"),
    Field("image", "this server makes none"),
)  # fmt: skip
