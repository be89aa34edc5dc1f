"""The fields of Ollama's requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from llamaq.boundary.arguments import INT32, real, shown, whole
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field, boolean, integer, list_of_texts, mapping, read_fields, string
from llamaq.server.openai.protocol import SAMPLING, tools

__all__ = [
    "CHAT", "DEFAULTS", "EMBED", "EMBEDDINGS", "GENERATE", "MESSAGE_KEYS", "OPTIONS", "PULL", "SHOW", "read_request",
]  # fmt: skip

DEFAULTS: dict[str, Any] = {"top_p": 0.9, "min_p": 0.0}
"""Settings of sampling that Ollama has otherwise than llama.cpp."""

_ROLES = ("system", "user", "assistant", "tool")
_TEXTS = {
    "content": "content", "thinking": "reasoning_content", "tool_name": "name", "tool_call_id": "tool_call_id",
}  # fmt: skip
"""Texts of a message, and what the library calls them."""
MESSAGE_KEYS = ("role", "images", "tool_calls", *_TEXTS)
_MOST_MESSAGES = 10_000
_MOST_TEXTS = 1024
_LEVELS = ("low", "medium", "high", "max")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"-?(?:\d{1,12}(?:\.\d{0,9})?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")


def read_request(
    table: tuple[Field, ...], body: Mapping[str, Any], *, strict: bool
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What the honoured fields mean, those of ``options`` apart, and the names of those that were ignored. Raises
    ``Refusal``."""
    values, ignored = read_fields(table, body, strict=strict)
    try:
        options, more = read_fields(OPTIONS, values.pop("options", {}), strict=strict)
    except Refusal as refusal:
        name = f"options.{refusal.param}"
        raise Refusal(400, f"options: {refusal.message}", param=name) from None
    return values, options, [*ignored, *(f"options.{name}" for name in more)]


def _keep_alive(name: str, value: Any) -> float:
    """Seconds, infinity for what is below 0."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
        return math.inf if value.startswith("-") else seconds
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
        value = int(value)
    if isinstance(value, str):
        raise ValueError(f'{name} must be seconds, or a text such as "5m" and "1h30m", got {shown(value)}')
    seconds = real(name, value)
    return math.inf if seconds < 0 else seconds


def _format(name: str, value: Any) -> str | dict[str, Any]:
    if value in ("", "json") or isinstance(value, dict):
        found: str | dict[str, Any] = value
        return found
    raise ValueError(f'{name} must be "json" or a JSON schema, got {shown(value)}')


def _think(name: str, value: Any) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value in _LEVELS):
        return value
    raise ValueError(f"{name} must be true, false or one of {', '.join(_LEVELS)}, got {shown(value)}")


def _messages(name: str, value: Any) -> list[dict[str, Any]]:
    """As the library takes them: with OpenAI's names, and ids for calls and their results."""
    if not isinstance(value, list) or len(value) > _MOST_MESSAGES:
        raise ValueError(f"{name} must be a list of at most {_MOST_MESSAGES} messages, got {shown(value)}")
    waiting: list[str] = []
    count = 0
    found = []
    for i, given in enumerate(value):
        message = _message(f"{name}[{i}]", given)
        for call in message.get("tool_calls", ()):
            call["id"] = call["id"] or f"call{count:05}"
            waiting.append(call["id"])
            count += 1
        if message["role"] == "tool" and "tool_call_id" not in message and waiting:
            message["tool_call_id"] = waiting.pop(0)
        found.append(message)
    return found


def _message(name: str, value: Any) -> dict[str, Any]:
    role = value.get("role") if isinstance(value, dict) else None
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise ValueError(f"{name} must be an object with a role of {', '.join(_ROLES)}, got {shown(value)}")
    found: dict[str, Any] = {"role": role.lower()}
    for theirs, ours in _TEXTS.items():
        if value.get(theirs) is not None:
            found[ours] = string(f"{name}.{theirs}", value[theirs])
    found.setdefault("content", "")
    if images := value.get("images"):
        found["content"] = [*_images(f"{name}.images", images), {"type": "text", "text": found["content"]}]
    if calls := value.get("tool_calls"):
        if not isinstance(calls, list):
            raise TypeError(f"{name}.tool_calls must be a list, got {shown(calls)}")
        found["tool_calls"] = [_call(f"{name}.tool_calls[{k}]", call) for k, call in enumerate(calls)]
    return found


def _images(name: str, value: Any) -> list[dict[str, Any]]:
    """Pictures as parts of a message."""
    if not isinstance(value, list) or not all(isinstance(image, str) for image in value):
        raise TypeError(f"{name} must be a list of base64 texts, got {shown(value)}")
    urls = [image if image.startswith("data:") else f"data:;base64,{image}" for image in value]
    return [{"type": "image_url", "image_url": url} for url in urls]


def _call(name: str, value: Any) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError(f'{name} must be {{"function": {{"name": ..., "arguments": {{...}}}}}}, got {shown(value)}')
    arguments = mapping(f"{name}.function.arguments", function.get("arguments") or {})
    id = string(f"{name}.id", value.get("id") or "")
    return {"id": id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _tools(name: str, value: Any) -> list[dict[str, Any]]:
    """As OpenAI has them, but the type may be left out."""
    given = value if isinstance(value, list) else [value]
    typed = [{"type": "function", **tool} if isinstance(tool, dict) else tool for tool in given]
    return tools(name, typed if isinstance(value, list) else value)


def _ids(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(id) is int for id in value):
        raise TypeError(f"{name} must be a list of token ids, got {shown(value)}")
    return value


def _limit(name: str, value: Any) -> int | None:
    found = whole(name, value, -INT32, INT32)
    return found if found > 0 else None


_LOADED = "the server's options say how models are loaded"
_NO_PICTURES = "this server makes no pictures"

OPTIONS = (
    Field("num_ctx", "tokens that prompt and answer may have; more than the server's `-c` is refused",
          integer(1, INT32)),
    Field("num_predict", "tokens of the answer; 0 or less: until its end or that of the context", _limit),
    Field("stop", "a text or up to 64", list_of_texts(64, 1024)),
    *SAMPLING,
    Field("num_keep", "tokens that stay where `truncate` or `shift` drops some", integer(0, INT32)),
    Field("tfs_z", "there is no such sampler", neutral=(1, 1.0)),
    Field("penalize_newline", "line ends are penalized like others", neutral=(True,)),
    *(Field(name, _LOADED) for name in ("num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram", "f16_kv",
                                        "use_mmap", "use_mlock", "vocab_only", "logits_all", "embedding_only")),
    Field("draft_num_predict", "how much is guessed depends on what was right so far"),
)  # fmt: skip

_MODEL = Field("model", "one of the server's names, with `:latest` or without", string)
_KEEP_ALIVE = Field(
    "keep_alive", "how long the model stays in memory: seconds or `5m`; below 0: for ever; 0: not at all", _keep_alive
)
_OPTIONS = Field("options", "see below", mapping)

_ANSWER = (
    _MODEL,
    Field("stream", "a line of JSON for each piece, where not given, too", boolean),
    Field("format", "`json`, or a JSON schema", _format),
    Field("think", "true, false, or `low`, `medium`, `high`, `max`: variables of the template", _think),
    _OPTIONS,
    _KEEP_ALIVE,
    Field("truncate", "true: the oldest tokens of a prompt that is too long are dropped; else it is refused", boolean),
    Field("shift", "true: the oldest tokens are dropped where the answer needs room; else it ends", boolean),
    Field("logprobs", "of every token of the answer", boolean),
    Field("top_logprobs", "0 to 20, with `logprobs`", integer(0, 20)),
    Field("_debug_render_only", "the prompt in the place of an answer", boolean),
)

GENERATE = (
    Field("prompt", "a text; none: the model is loaded, or unloaded", string),
    Field("suffix", "fills in before it, with a model of code that can", string),
    Field("system", "the system's message", string),
    Field("context", "tokens of the conversation so far, from the answer before", _ids),
    Field("images", "pictures in base64, before the prompt; what the answer gives as `context` is left out", _images),
    Field("raw", "true: the prompt as it is, without a template", boolean),
    *_ANSWER,
    Field("template", "templates of Go are not taken; `--chat-template` names another", neutral=("",)),
    Field("width", _NO_PICTURES, neutral=(0,)),
    Field("height", _NO_PICTURES, neutral=(0,)),
    Field("steps", _NO_PICTURES, neutral=(0,)),
)

CHAT = (
    Field("messages", "texts; none: the model is loaded, or unloaded", _messages),
    Field("tools", "functions, as OpenAI has them", _tools),
    *_ANSWER,
)

EMBED = (
    _MODEL,
    Field("input", f"a text, or up to {_MOST_TEXTS}", list_of_texts(_MOST_TEXTS, INT32)),
    Field("truncate", "false: a text that is too long is refused; else its end is left out", boolean),
    Field("dimensions", "so many of the first numbers, made of length 1 again", integer(0, INT32)),
    _OPTIONS,
    _KEEP_ALIVE,
)

EMBEDDINGS = (_MODEL, Field("prompt", "a text", string), _OPTIONS, _KEEP_ALIVE)

SHOW = (
    _MODEL,
    Field("name", "the old name of `model`", string),
    Field("verbose", "true: arrays of the metadata and all tensors, too", boolean),
    Field("system", "a model is shown as it is"),
    Field("template", "a model is shown as it is"),
    Field("options", "a model is shown as it is"),
)

PULL = (
    Field("model", "`hf.co/user/repo:QUANT`; `hf:` or nothing may stand for `hf.co/`", string),
    Field("name", "the old name of `model`", string),
    Field("stream", "lines that tell how far it is, where not given, too", boolean),
    Field("insecure", "connections are always checked"),
)
