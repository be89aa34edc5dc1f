"""What a model's owner wants where nobody asks otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llamaq.sampling import SamplingParams

__all__ = ["Defaults"]


@dataclass(frozen=True)
class Defaults:
    """``sampling`` and ``max_tokens`` hold where an answer names none; ``stop`` beside its own; ``system`` is the
    system message of conversations without one; ``n_ctx`` the context (0: the model's own); ``adapters`` are files that
    everything goes through."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    system: str = ""
    n_ctx: int = 0
    adapters: tuple[Path, ...] = ()
