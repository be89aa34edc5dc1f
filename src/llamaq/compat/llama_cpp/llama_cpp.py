"""The few functions of llama.cpp's C interface that frameworks call through llama_cpp, in Python, and its constants."""

from __future__ import annotations

from typing import Any

from .constants import *  # noqa: F403, they are all meant
from .model import Model

__all__ = ["llama_model_get_vocab", "llama_token_to_piece", "missing"]


def llama_model_get_vocab(model: Model) -> Model:
    """The handle that ``llama_token_to_piece`` takes: the model itself."""
    return model


def llama_token_to_piece(vocab: Model, token: int, buf: Any, length: int, lstrip: int, special: bool) -> int:
    """Writes a token's text into a buffer of ``length`` bytes; the bytes it has, negative where they do not fit."""
    piece = vocab.parts.tokenizer.token_bytes(token, special=special)
    for _ in range(lstrip):
        piece = piece.removeprefix(b" ")
    if len(piece) > length:
        return -len(piece)
    buf[: len(piece)] = piece
    return len(piece)


def missing(name: str) -> AttributeError:
    """What is raised for a name that is not here."""
    if name.startswith(("llama_", "ggml_", "LLAMA_", "GGML_")):
        advice = "llamaq has no C interface; what it does is in llamaq.LLM and llamaq.Session"
        return AttributeError(f"llamaq.compat has no {name}: {advice}")
    return AttributeError(f"llamaq.compat.llama_cpp has no {name}; docs/llama-cpp-python.md tells what it has")


def __getattr__(name: str) -> Any:
    raise missing(name)
