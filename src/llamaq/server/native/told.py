"""What llama-server tells of an answer besides its text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from llamaq.sampling import SamplingParams

__all__ = ["cut_out", "settings_of", "stop_of"]

_NOT_TOLD = {"logit_processors", "logprobs", "min_tokens", "structure", "logit_bias"}
_NOT_HERE: dict[str, Any] = {
    "n_keep": 0, "n_discard": 0, "grammar_lazy": False, "grammar_triggers": [], "preserved_tokens": [],
    "chat_format": "Content-only", "reasoning_in_content": False, "generation_prompt": "", "speculative.types": "none",
    "post_sampling_probs": False, "backend_sampling": False,
}  # fmt: skip
"""Settings that llama-server tells and nothing here could change."""


def settings_of(sampling: SamplingParams, values: Mapping[str, Any]) -> dict[str, Any]:
    """``generation_settings``: what an answer was made with; ``values`` are the fields of the request."""
    found: dict[str, Any] = {
        field.name: getattr(sampling, field.name) for field in fields(sampling) if field.name not in _NOT_TOLD
    }
    wanted = values.get("n_predict", values.get("max_tokens"))
    limit = -1 if wanted is None else wanted
    found |= {name: list(found[name]) for name in ("samplers", "dry_sequence_breakers")}
    biases = [(token, bias if math.isfinite(bias) else None) for token, bias in sampling.logit_bias.items()]
    return {
        **found, **_NOT_HERE, "stop": list(values.get("stop", ())), "max_tokens": limit, "n_predict": limit,
        "stream": values.get("stream", False), "logit_bias": [{"token": id, "bias": bias} for id, bias in biases],
        "n_probs": values.get("n_probs", 0), "grammar": values.get("grammar", ""), "reasoning_format": "none",
        "lora": [{"id": id, "scale": scale} for id, scale in values.get("lora", ())],
        "timings_per_token": values.get("timings_per_token", False),
    }  # fmt: skip


def stop_of(reason: str, stop: str | None) -> dict[str, Any]:
    """What ended an answer."""
    kind = "limit" if reason != "stop" else "eos" if stop is None else "word"
    return {"truncated": reason == "context", "stop_type": kind, "stopping_word": stop or ""}


def cut_out(found: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The fields that these paths name, as far as there are such; all of them for no path."""
    if not paths:
        return found
    wanted: dict[str, Any] = {}
    for path in paths:
        value: Any = found
        for name in path.split("/"):
            value = value.get(name, _missing) if isinstance(value, dict) else _missing
        if value is not _missing:
            wanted[path] = value
    return wanted


_missing = object()
