"""Caches of states. llamaq keeps the beginnings of texts by itself, so these only take the calls."""

from __future__ import annotations

from collections.abc import Sequence

from .processors import LlamaState

__all__ = ["BaseLlamaCache", "LlamaCache", "LlamaDiskCache", "LlamaRAMCache"]


class BaseLlamaCache:
    """Keeps nothing: what a model has read is in its own cache, for all texts with that beginning
    (``LLM.load(n_cache=...)`` sets its size)."""

    def __init__(self, capacity_bytes: int = 2**31) -> None:
        self.capacity_bytes = capacity_bytes

    @property
    def cache_size(self) -> int:
        return 0

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        raise KeyError("Key not found")

    def __contains__(self, key: Sequence[int]) -> bool:
        return False

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        return


class LlamaRAMCache(BaseLlamaCache):
    """As ``BaseLlamaCache``."""


LlamaCache = LlamaRAMCache


class LlamaDiskCache(BaseLlamaCache):
    """As ``BaseLlamaCache``; nothing is written. ``llamaq.Session.save`` keeps a text over a restart."""

    def __init__(self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = 2**31) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = cache_dir
