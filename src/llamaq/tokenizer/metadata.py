"""Typed reading of the ``tokenizer.ggml.*`` keys, from a GGUF file's metadata or from a plain dict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import TokenizerError

__all__ = ["Metadata", "flag", "log", "numbers", "strings", "text", "token_id"]

Metadata = Mapping[str, Any]

log = logging.getLogger("llamaq.tokenizer")

_CONVERT_AGAIN = "the file is damaged or was converted wrongly: convert the model again"


def text(metadata: Metadata, key: str) -> str | None:
    """A string value; None where the key is absent, TokenizerError where it holds something else."""
    value: str | None = _scalar(metadata, key, str, "a string")
    return value


def flag(metadata: Metadata, key: str, default: bool) -> bool:
    """A boolean value, or ``default`` where the key is absent."""
    value: bool | None = _scalar(metadata, key, bool, "a boolean")
    return default if value is None else value


def token_id(metadata: Metadata, key: str, n_vocab: int) -> int | None:
    """A token id; an id outside the vocabulary counts as absent, as llama.cpp has it, with a warning."""
    value: int | None = _scalar(metadata, key, int, "a token id")
    if value is None or 0 <= value < n_vocab:
        return value
    log.warning("%s is %d, outside the vocabulary of %d tokens: ignored", key, value, n_vocab)
    return None


def strings(metadata: Metadata, key: str) -> list[bytes] | None:
    """An array of strings as UTF-8; None where the key is absent."""
    value = metadata.get(key)
    if value is None:
        return None
    try:
        if hasattr(value, "bytes_list"):  # GGUFArray has bytes without a detour through str
            raw: list[bytes] = value.bytes_list()
            return raw
        if not isinstance(value, str):
            return [item.encode("utf-8", "surrogateescape") for item in value]
    except (TypeError, AttributeError):
        pass
    raise _mistyped(key, "an array of strings", value)


def numbers(metadata: Metadata, key: str, at_least: int = 0) -> NDArray[Any] | None:
    """An array of ``at_least`` that many numbers; None where the key is absent."""
    value = metadata.get(key)
    if value is None:
        return None
    try:
        array = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    except (TypeError, ValueError):
        raise _mistyped(key, "an array of numbers", value) from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iufb"):
        raise _mistyped(key, "an array of numbers", value)
    if len(array) < at_least:
        raise TokenizerError(f"{key} has {len(array)} elements for {at_least} tokens; {_CONVERT_AGAIN}")
    return np.asarray(array)


def _scalar(metadata: Metadata, key: str, kind: type, expected: str) -> Any:
    value = metadata.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise _mistyped(key, expected, value)
    return value


def _mistyped(key: str, expected: str, value: object) -> TokenizerError:
    got = f"{len(value)} elements" if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
    return TokenizerError(f"{key} should be {expected}, but is {got}; {_CONVERT_AGAIN}")
