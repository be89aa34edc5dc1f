"""How busy a model is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Occupancy"]


@dataclass(frozen=True)
class Occupancy:
    """What is asked of a model now: ``running`` requests have a place in the cache, ``waiting`` ones have none yet, or
    lost it to others.

    The cache has room for ``cache_tokens`` tokens of texts (an encoder has none), and pages for ``free_tokens`` of them
    hold nothing. The others hold texts that run, and texts kept for whoever comes with the same beginning, which make
    room where it is needed.
    """

    running: int
    waiting: int
    cache_tokens: int
    free_tokens: int
