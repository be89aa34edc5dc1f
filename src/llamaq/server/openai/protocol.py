"""The fields of OpenAI's requests, and those that llama-server and others have added."""

from __future__ import annotations

from typing import Any

from llamaq.boundary.arguments import INT32, real, shown, whole
from llamaq.chat.pictures import picture_in
from llamaq.server.fields import (
    Field,
    any_value,
    boolean,
    integer,
    list_of_texts,
    mapping,
    number,
    scales,
    string,
    word,
)

__all__ = [
    "CHAT", "COMPLETION", "EMBEDDING", "LORA", "MOST_ANSWERS", "MOST_BIASES", "MOST_PROMPTS", "MOST_TOGETHER",
    "SAMPLING", "count", "token_bias", "tools",
]  # fmt: skip

MOST_ANSWERS = 16
MOST_PROMPTS = 64
MOST_TOGETHER = 64
"""Answers of one request."""
_MOST_MESSAGES = 10_000
_MOST_TOOLS = 256
MOST_BIASES = 10_000
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


LORA = Field(
    "lora",
    "adapters of `--lora`, each an object with its `id` and `scale`, the others none; `[]`: as the server has them",
    scales,
)


def _messages(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or len(value) > _MOST_MESSAGES:
        raise ValueError(f"{name} must be a list of 1 to {_MOST_MESSAGES} messages, got {shown(value)}")
    found = []
    for i, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ValueError(f"{name}[{i}] must be an object with a role of {', '.join(_ROLES)}, got {shown(message)}")
        found.append({key: item for key, item in message.items() if item is not None or key == "content"})
        parts = found[-1].get("content")
        if isinstance(parts, list):
            found[-1]["content"] = [_part(f"{name}[{i}].content[{k}]", part) for k, part in enumerate(parts)]
        if message["role"] == "function":
            found[-1]["role"] = "tool"
    return found


def _part(name: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal") and isinstance(part.get(kind), str):
        return {"type": "text", "text": part[kind]}
    if kind == "image_url" and picture_in(part) is not None:
        return {"type": kind, "image_url": picture_in(part)}
    raise ValueError(f'{name} must be {{"type": "text", "text": ...}}, or an image_url; got {shown(part)}')


def tools(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > _MOST_TOOLS:
        raise ValueError(f"{name} must be a list of at most {_MOST_TOOLS} tools, got {shown(value)}")
    for i, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if (
            not isinstance(function, dict)
            or tool.get("type") != "function"
            or not isinstance(function.get("name"), str)
        ):
            expected = '{"type": "function", "function": {"name": ..., "parameters": {...}}}'
            raise ValueError(f"{name}[{i}] must be {expected}, got {shown(tool)}")
        if not isinstance(function.get("parameters") or {}, dict):
            raise ValueError(f"{name}[{i}].function.parameters must be a JSON schema, got {shown(function)}")
    return value


def _prediction(name: str, value: Any) -> str:
    found = mapping(name, value)
    word("content")(f"{name}.type", found.get("type"))
    content = found.get("content")
    if isinstance(content, list):
        return "".join(_part(f"{name}.content[{i}]", part)["text"] for i, part in enumerate(content))
    return string(f"{name}.content", content)


def _stream_options(name: str, value: Any) -> dict[str, bool]:
    options = mapping(name, value)
    return {key: boolean(f"{name}.{key}", option) for key, option in options.items() if option is not None}


def _response_format(name: str, value: Any) -> dict[str, Any]:
    found = mapping(name, value)
    word("text", "json_object", "json_schema")(f"{name}.type", found.get("type"))
    if found["type"] == "json_schema":
        inner = mapping(f"{name}.json_schema", found.get("json_schema"))
        if not isinstance(inner.get("schema"), dict | bool):
            raise ValueError(f"{name}.json_schema.schema must be a JSON schema, got {shown(inner.get('schema'))}")
    return found


def token_bias(name: str, value: Any) -> dict[int, float]:
    found = mapping(name, value)
    if len(found) > MOST_BIASES or not all(id.isascii() and id.isdecimal() and len(id) < 11 for id in found):
        raise ValueError(f"{name} must map at most {MOST_BIASES} token ids to numbers, got {shown(value)}")
    return {int(id): real(f"each number of {name}", bias, -1e6, 1e6) for id, bias in found.items()}


def _prompts(name: str, value: Any) -> list[str | list[int]]:
    """A text, the ids of one, or a list of either."""
    if isinstance(value, str) or (isinstance(value, list) and value and all(type(each) is int for each in value)):
        value = [value]
    if not isinstance(value, list) or not 0 < len(value) <= MOST_PROMPTS:
        raise ValueError(
            f"{name} must be a text, token ids, or a list of 1 to {MOST_PROMPTS} of them, got {shown(value)}"
        )
    for each in value:
        if not isinstance(each, str) and not (isinstance(each, list) and all(type(id) is int for id in each)):
            raise TypeError(f"{name} must have texts or lists of token ids, got {shown(each)}")
    return value


def count(name: str, value: Any) -> int | None:
    """A number of tokens; -1 is llama-server's word for no limit."""
    found = whole(name, value, -1, INT32)
    return None if found < 0 else found


def _samplers(name: str, value: Any) -> str | list[str]:
    found: list[str] = list_of_texts(64, 512)(name, value)
    return found[0] if isinstance(value, str) else found


def _off_at_minus_one(name: str, value: Any) -> int:
    return max(whole(name, value, -1, INT32), 0)


def _seed(name: str, value: Any) -> int | None:
    found = whole(name, value, -1, 2**64 - 1)
    return None if found < 0 else found


_NUMBERS = (
    "top_p", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "repeat_last_n",
    "repeat_penalty", "presence_penalty", "frequency_penalty", "dry_multiplier", "dry_base", "dry_allowed_length",
    "dry_penalty_last_n", "dynatemp_range", "dynatemp_exponent", "mirostat", "mirostat_tau", "mirostat_eta",
    "adaptive_target", "adaptive_decay", "min_keep", "min_tokens",
)  # fmt: skip
"""Fields of ``SamplingParams`` under their own names, which checks them itself."""

SAMPLING = (
    Field("temperature", "0 takes the most likely token; 0.8 where not given, as in llama.cpp", number(0.0, 1e6)),
    Field("top_k", "0 or -1: off", _off_at_minus_one),
    *(Field(name, "[sampling](sampling.md)", any_value) for name in _NUMBERS),
    Field("samplers", "their order: names, or one text", _samplers),
    Field("dry_sequence_breakers", "at most 64", list_of_texts(64, 256)),
    Field("ignore_eos", "", boolean),
    Field("logit_bias", "token ids to numbers that are added to their logits", token_bias),
    Field("seed", "the same seed gives the same answer; the header `x-llamaq-seed` has the one in use", _seed),
)

_STRUCTURE = (
    Field("grammar", "GBNF, as llama-server takes it", string),
    Field("json_schema", "as llama-server takes it; `{}`: any object", mapping),
)

_COMMON = (
    Field("model", "one of the server's names; need not be given", string),
    Field("stream", "server-sent events", boolean),
    Field("stream_options", "`include_usage`", _stream_options),
    Field(
        "n", f"1 to {MOST_ANSWERS} answers, each with the seed after that of the one before", integer(1, MOST_ANSWERS)
    ),
    Field("stop", "a text or up to 64", list_of_texts(64, 1024)),
    *SAMPLING,
    *_STRUCTURE,
)

_IGNORED = (
    Field("user", "nothing is kept of who asks"),
    Field("metadata", "nothing is stored"),
    Field("store", "nothing is stored"),
    Field("service_tier", "there is one"),
    Field("cache_prompt", "what was read is always reused"),
    Field("id_slot", "there are no slots"),
)

CHAT = (
    Field("messages", "texts; the last may be the beginning of the answer", _messages),
    *_COMMON,
    Field("max_completion_tokens", "comes before `max_tokens`", count),
    Field("max_tokens", "until the end of answer or context where not given", count),
    Field("logprobs", "of every token of the answer, marks and reasoning among them", boolean),
    Field("top_logprobs", "0 to 20, with `logprobs`", integer(0, 20)),
    Field("response_format", "`text`, `json_object`, `json_schema`; after the reasoning; a call may come in its place",
          _response_format),
    Field("tools", "functions", tools),
    Field("tool_choice", "`auto`, `none`, `required`, one tool, or `allowed_tools`; what must be called is", any_value),
    Field("parallel_tool_calls", "false: the answer has one call at most", boolean),
    Field("reasoning_effort", "the template's variable; `none` is also `enable_thinking` false",
          word("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    Field("reasoning_format", "`none`: reasoning stays in the text, with its marks; `auto`, `deepseek`: it comes apart",
          word("auto", "deepseek", "none")),
    Field("chat_template_kwargs", "variables of the template", mapping),
    Field("add_generation_prompt", "variable of the template", boolean),
    Field("prediction", "text that the answer may repeat, which is quicker then and no other", _prediction),
    Field("functions", "the old form is not taken: use tools", neutral=([],)),
    Field("function_call", "the old form is not taken: use tool_choice", neutral=("auto", "none")),
    Field("audio", "this server writes text only", neutral=()),
    Field("modalities", "this server writes text only", neutral=(["text"], [])),
    Field("web_search_options", "this server does not search the web", neutral=()),
    Field("moderation", "this server does not moderate", neutral=()),
    LORA,
    *_IGNORED,
    Field("verbosity", "models have no such switch"),
    Field("safety_identifier", "nothing is kept of who asks"),
    Field("prompt_cache_key", "what was read is always reused"),
    Field("prompt_cache_options", "what was read is always reused"),
    Field("prompt_cache_retention", "what was read is always reused"),
)  # fmt: skip

COMPLETION = (
    Field("prompt", "a text, token ids, or up to 64 of them; none: BOS", _prompts),
    *_COMMON,
    Field("max_tokens", "until the end of text or context where not given", count),
    Field("logprobs", "0 to 20: the classic lists, and chat's `content` beside them", integer(0, 20)),
    Field("echo", "the prompt's text before the answer, and with `logprobs` its tokens' too", boolean),
    Field("suffix", "fills in before it, with a model of code that can", string),
    Field("best_of", "answers are not ranked", neutral=(1,)),
    LORA,
    *_IGNORED,
)

EMBEDDING = (
    Field("input", "a text, token ids, or up to 64 of them", _prompts),
    Field("model", "one of the server's names; need not be given", string),
    Field("encoding_format", "`float` or `base64`", word("float", "base64")),
    Field("dimensions", "so many of the first numbers, made of length 1 again", integer(1, INT32)),
    Field("user", "nothing is kept of who asks"),
)
