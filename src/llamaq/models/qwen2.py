"""Qwen 2 and 2.5: Llama's blocks; queries, keys and values have biases."""

from __future__ import annotations

from llamaq.models.hparams import read_decoder
from llamaq.models.keys import Keys
from llamaq.models.llama import Llama, trace

__all__ = ["read", "trace"]


def read(keys: Keys) -> Llama:
    return Llama(**vars(read_decoder(keys, layout="neox")), moe=None)
