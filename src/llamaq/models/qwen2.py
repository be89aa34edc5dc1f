"""Qwen 2 and 2.5: Llama's blocks; queries, keys and values have biases."""

from __future__ import annotations

from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.models.llama import trace

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    return read_decoder(keys, layout="neox")
