"""The arguments of ``Llama``'s methods, in their order and with their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["CALLS", "CHAT", "COMPLETION", "GENERATE", "SAMPLE", "bound", "signature_of"]

_REQUIRED = inspect.Parameter.empty
_MIROSTAT = {"tfs_z": 1.0, "mirostat_mode": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1}

COMPLETION: dict[str, Any] = {
    "prompt": _REQUIRED, "suffix": None, "max_tokens": 16, "temperature": 0.8, "top_p": 0.95, "min_p": 0.05,
    "typical_p": 1.0, "logprobs": None, "echo": False, "stop": (), "frequency_penalty": 0.0, "presence_penalty": 0.0,
    "repeat_penalty": 1.0, "top_k": 40, "stream": False, "seed": None, **_MIROSTAT, "model": None,
    "stopping_criteria": None, "logits_processor": None, "grammar": None, "logit_bias": None,
}  # fmt: skip

CHAT: dict[str, Any] = {
    "messages": _REQUIRED, "functions": None, "function_call": None, "tools": None, "tool_choice": None,
    "temperature": 0.2, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "typical_p": 1.0, "stream": False, "stop": (),
    "seed": None, "response_format": None, "max_tokens": None, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    "repeat_penalty": 1.0, **_MIROSTAT, "model": None, "logits_processor": None, "grammar": None, "logit_bias": None,
    "logprobs": None, "top_logprobs": None,
}  # fmt: skip

_SAMPLING: dict[str, Any] = {
    "top_k": 40, "top_p": 0.95, "min_p": 0.05, "typical_p": 1.0, "temp": 0.8, "repeat_penalty": 1.0,
}  # fmt: skip
_PENALTIES: dict[str, Any] = {"frequency_penalty": 0.0, "presence_penalty": 0.0, "tfs_z": 1.0, "mirostat_mode": 0}

SAMPLE: dict[str, Any] = {
    **_SAMPLING, **_PENALTIES, "mirostat_eta": 0.1, "mirostat_tau": 5.0, "penalize_nl": True, "logits_processor": None,
    "grammar": None, "idx": None,
}  # fmt: skip

GENERATE: dict[str, Any] = {
    "tokens": _REQUIRED, **_SAMPLING, "reset": True, **_PENALTIES, "mirostat_tau": 5.0, "mirostat_eta": 0.1,
    "penalize_nl": True, "logits_processor": None, "stopping_criteria": None, "grammar": None,
}  # fmt: skip


def signature_of(table: Mapping[str, Any]) -> inspect.Signature:
    """That of a function with these arguments."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind, default=default) for name, default in table.items()])


CALLS = {
    "create_completion": COMPLETION, "create_chat_completion": CHAT, "sample": SAMPLE, "generate": GENERATE,
}  # fmt: skip
_SIGNATURES = {name: signature_of(table) for name, table in CALLS.items()}


def bound(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each argument of a call of this method. Raises ``TypeError`` as Python does."""
    try:
        found = _SIGNATURES[name].bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"Llama.{name}() {error}") from None
    found.apply_defaults()
    return found.arguments
