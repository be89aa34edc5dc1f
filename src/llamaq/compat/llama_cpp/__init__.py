"""The interface of llama-cpp-python on llamaq. docs/llama-cpp-python.md tells what is the same and what is not."""

# What is imported is what there is.
# ruff: noqa: F401, F403
from __future__ import annotations

from typing import Any

from . import (
    _logger,
    constants,
    llama,
    llama_cache,
    llama_chat_format,
    llama_cpp,
    llama_grammar,
    llama_speculative,
    llama_tokenizer,
    llama_types,
)
from .constants import *
from .llama import *
from .llama_cache import *
from .llama_cpp import llama_model_get_vocab as llama_model_get_vocab
from .llama_cpp import llama_token_to_piece as llama_token_to_piece
from .llama_cpp import missing
from .llama_tokenizer import *
from .llama_types import *

__version__ = "0.3.36"
"""The version of llama-cpp-python whose interface this is."""

SUBMODULES = (
    "_logger", "llama", "llama_cache", "llama_chat_format", "llama_cpp", "llama_grammar", "llama_speculative",
    "llama_tokenizer", "llama_types",
)  # fmt: skip
"""Those that code imports by name."""


def __getattr__(name: str) -> Any:
    raise missing(name)
