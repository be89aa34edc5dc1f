"""What chat and completions make of the same fields: settings of sampling, structures, log-probabilities, counts."""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llamaq.errors import LlamaqError
from llamaq.sampling import SamplingParams
from llamaq.server.errors import Refusal, refusal_of, shutting_down
from llamaq.server.openai.protocol import SAMPLING

if TYPE_CHECKING:
    from llamaq.chat import ChatStream
    from llamaq.server.served import Served
    from llamaq.serving.adaptation import AdapterChoice
    from llamaq.serving.stream import Stream
    from llamaq.structure import Structure
    from llamaq.tokenizer import Tokenizer

__all__ = [
    "adapter_of", "finish_reason", "head_of", "sampling_of", "structure_of", "timings_of", "token_entry", "usage_of",
    "variables_of", "with_defaults",
]  # fmt: skip

_ENDS = {"stop": "stop", "length": "length", "context": "length", "tool_calls": "tool_calls"}
_NO_PROBABILITY = -9999.0  # JSON has no infinity


def sampling_of(values: Mapping[str, Any], logprobs: int | None) -> SamplingParams:
    """The settings, with a seed in any case. Raises ``Refusal``."""
    given = {field.name: values[field.name] for field in SAMPLING if field.name in values}
    if given.get("seed") is None:
        given["seed"] = random.SystemRandom().getrandbits(32)
    try:
        return SamplingParams(**given, logprobs=logprobs)
    except (TypeError, ValueError) as error:
        raise refusal_of(error, asked=True) from None


def with_defaults(sampling: SamplingParams, values: Mapping[str, Any], defaults: SamplingParams) -> SamplingParams:
    """The settings that a request asks for, and those of the model's owner where it says nothing."""
    asked = {field.name for field in SAMPLING if values.get(field.name) is not None} | {"logprobs"}
    if defaults.seed is None:
        asked.add("seed")
    return replace(defaults, **{name: getattr(sampling, name) for name in asked})


def structure_of(values: Mapping[str, Any], field: str = "response_format") -> Structure | None:
    """What the answer must match; ``field`` is what clients call "response_format". Raises ``Refusal`` with the field
    that cannot be used."""
    format = values.get("response_format", {"type": "text"})
    asked = [name for name in ("grammar", "json_schema") if values.get(name, "") != ""]
    if format["type"] != "text":
        asked.append("response_format")
    if not asked:
        return None
    if len(asked) > 1:
        raise Refusal(400, f"{' and '.join(asked)} both say what the answer looks like; give one", param=asked[1])
    from llamaq.structure import gbnf, json_object, json_schema

    try:
        if asked == ["grammar"]:
            return gbnf(values["grammar"])
        if asked == ["json_schema"]:
            return json_schema(values["json_schema"]) if values["json_schema"] else json_object()
        schema = format.get("schema") if format["type"] == "json_object" else format["json_schema"]["schema"]
        return json_object() if schema is None else json_schema(schema)
    except (LlamaqError, TypeError, ValueError) as error:
        at = field if asked == ["response_format"] else asked[0]
        raise Refusal(400, f"{at}: {error}", param=at) from None


def adapter_of(values: Mapping[str, Any], served: Served) -> AdapterChoice:
    """The adapters that a request asks for. Raises ``Refusal`` for a number that none has."""
    wanted, loaded = values.get("lora"), served.llm.adapters
    if not wanted:
        return None
    for id, _ in wanted:
        if id >= len(loaded):
            raise Refusal(400, f"lora: expected an id below {len(loaded)}, got {id}; see /lora-adapters", param="lora")
    return {loaded[id]: scale for id, scale in wanted}


def finish_reason(reason: str) -> str:
    """Why an answer ended, in the protocol's words. Raises ``Refusal`` for one that was ended from outside."""
    if reason not in _ENDS:
        raise shutting_down()
    return _ENDS[reason]


def head_of(served: Served, kind: str, prefix: str) -> dict[str, Any]:
    """What an answer begins with."""
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}", "object": kind, "created": int(time.time()), "model": served.name,
        "system_fingerprint": served.fingerprint,
    }  # fmt: skip


def usage_of(streams: Sequence[Stream | ChatStream], n: int, reasoning_tokens: int | None = None) -> dict[str, Any]:
    """Tokens of all answers; each prompt has ``n`` of them and counts once."""
    usages = [stream.usage for stream in streams]
    prompt = sum(usage.prompt_tokens for usage in usages[::n])
    made = sum(usage.completion_tokens for usage in usages)
    found: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
    found["prompt_tokens_details"] = {"cached_tokens": sum(usage.cached_tokens for usage in usages[::n])}
    if reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return found


def timings_of(streams: Sequence[Stream | ChatStream], n: int, why: str) -> dict[str, Any]:
    """Counts and times of all answers, as llama-server tells them, and ``why`` so much of the prompt, and no more,
    came from the cache."""
    usages = [stream.usage for stream in streams]
    cached = sum(usage.cached_tokens for usage in usages[::n])
    read = sum(usage.prompt_tokens for usage in usages[::n]) - cached
    made = sum(usage.completion_tokens for usage in usages)
    reading = max(usage.prompt_seconds for usage in usages)
    making = max(usage.completion_seconds for usage in usages)
    drafted, accepted = (
        sum(each) for each in zip(*((u.drafted_tokens, u.accepted_tokens) for u in usages), strict=True)
    )
    return {
        "cache_n": cached, **_rate("prompt", read, reading), **_rate("predicted", made, making), "why": why,
        **({"draft_n": drafted, "draft_n_accepted": accepted} if drafted else {}),
    }  # fmt: skip


def _rate(name: str, tokens: int, seconds: float) -> dict[str, float]:
    return {
        f"{name}_n": tokens, f"{name}_ms": 1e3 * seconds,
        f"{name}_per_token_ms": 1e3 * seconds / max(tokens, 1),
        f"{name}_per_second": tokens / seconds if seconds else 0.0,
    }  # fmt: skip


def token_entry(
    tokenizer: Tokenizer, token: int, logprob: float | None, top: Iterable[tuple[int, float]]
) -> dict[str, Any]:
    """A token of ``logprobs``; its bytes may be part of a character."""
    return {**_entry(tokenizer, token, logprob), "top_logprobs": [_entry(tokenizer, *each) for each in top]}


def _entry(tokenizer: Tokenizer, token: int, logprob: float | None) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token, special=True)
    number = _NO_PROBABILITY if logprob is None or not math.isfinite(logprob) else logprob
    return {"id": token, "token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": number}


def variables_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of the template that the request sets."""
    found: dict[str, Any] = {}
    if (effort := values.get("reasoning_effort")) is not None:
        found = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    if "add_generation_prompt" in values:
        found["add_generation_prompt"] = values["add_generation_prompt"]
    return {**found, **values.get("chat_template_kwargs", {})}
