"""SmolLM 3: Llama's blocks, every fourth of which has no rope (Yang et al., "Rope to NoPE and back again", 2025)."""

from __future__ import annotations

from dataclasses import replace

from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.models.llama import trace

__all__ = ["read", "trace"]


def read(keys: Keys) -> Decoder:
    hp = read_decoder(keys, layout="norm")
    return replace(hp, ropes=tuple(None if i % 4 == 3 else hp.rope for i in range(hp.layers)))
