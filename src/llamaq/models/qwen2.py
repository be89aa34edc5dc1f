"""Qwen 2 and 2.5, and the text of Qwen 2-VL and 2.5-VL: Llama's blocks; queries, keys and values have biases."""

from __future__ import annotations

from llamaq.models.hparams import read_decoder
from llamaq.models.keys import Keys
from llamaq.models.llama import Llama, trace

__all__ = ["OLD_KEYS", "read", "trace"]

OLD_KEYS = {"rope.dimension_sections": "rope.mrope_section"}
"""As ollama's own converter calls it in files of Qwen 2.5-VL."""


def read(keys: Keys) -> Llama:
    return Llama(**vars(read_decoder(keys, layout="neox", sections="apart")), moe=None)
