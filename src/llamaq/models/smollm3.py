"""SmolLM 3: Llama's blocks, every fourth of which has no rope (Yang et al., "Rope to NoPE and back again", 2025)."""

from __future__ import annotations

from dataclasses import replace

from llamaq.models import llama
from llamaq.models.keys import Keys
from llamaq.models.llama import Llama, trace

__all__ = ["read", "trace"]


def read(keys: Keys) -> Llama:
    hp = llama.read(keys)
    return replace(hp, ropes=tuple(None if i % 4 == 3 else hp.rope for i in range(hp.layers)))
