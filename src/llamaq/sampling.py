"""Choosing the next token from logits. The same seed gives the same choices on every level and thread count."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.errors import ModelError

__all__ = ["Sampler", "SamplingParams"]

_FIRST_LOOK = 256


@dataclass(frozen=True)
class SamplingParams:
    """Settings of the chain penalties, top-k, top-p, min-p, temperature; defaults are llama.cpp's.

    ``temperature`` 0 (or less) takes the most likely token. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 turn
    those samplers off; ``repeat_penalty`` 1 turns the penalty on the last ``repeat_last_n`` tokens off (-1:
    all tokens). ``seed`` None draws a random one. Raises ``ValueError`` for a value out of range.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("temperature", -math.inf, math.inf),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repeat_penalty", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not (low <= value <= high) or math.isinf(value):
                raise ValueError(f"{name} must be a number from {low} to {high}, got {value}")
        if self.repeat_penalty == 0.0:
            raise ValueError("repeat_penalty must be greater than 0; 1 turns it off")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or greater, got {self.top_k}")
        if self.repeat_last_n < -1:
            raise ValueError(f"repeat_last_n must be -1 (all) or greater, got {self.repeat_last_n}")


class Sampler:
    """Draws tokens after ``params``; ``seed`` is the one in use."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.seed = random.SystemRandom().getrandbits(32) if params.seed is None else params.seed
        self._random = random.Random(self.seed)

    def sample(self, logits: NDArray[np.float32], history: Sequence[int]) -> int:
        """The next token; arguments and errors as in ``candidates``."""
        ids, weights = self.candidates(logits, history)
        return ids[self._draw(weights)]

    def candidates(self, logits: NDArray[np.float32], history: Sequence[int]) -> tuple[list[int], list[float]]:
        """The tokens that the chain leaves and their probabilities, the most likely first.

        ``logits`` (vocabulary,), ``history`` all tokens so far, prompt included. Raises ``ModelError`` where
        the logits are not numbers (a damaged model).
        """
        p = self.params
        logits = self._penalized(logits, history)
        best = int(logits.argmax())
        if not math.isfinite(logits[best]):
            raise ModelError("the model gave logits that are not numbers; its file is probably damaged")
        if p.temperature <= 0:
            return [best], [1.0]
        ids = self._kept(logits, float(logits[best]))
        return ids.tolist(), _softmax(logits[ids], p.temperature)

    def _kept(self, logits: NDArray[np.float32], top: float) -> NDArray[np.int32]:
        """Ids that top-k, top-p and min-p leave, the most likely first."""
        p = self.params
        limit = min(p.top_k or len(logits), len(logits))
        truncates = p.top_p < 1.0 or p.min_p > 0.0
        # Without top-k some hundred tokens mostly are enough to see where the others end.
        k = limit if p.top_k or not truncates else min(_FIRST_LOOK, limit)
        while True:
            ids = _core.top_k(logits, k)
            if not truncates:
                return ids
            weights = [math.exp(float(s) - top) for s in logits[ids]]
            keep = min(self._kept_by_top_p(weights, logits, top), _kept_by_min_p(weights, p.min_p))
            if keep < k or k == limit:
                return ids[:keep]
            k = min(16 * k, limit)

    def _kept_by_top_p(self, weights: list[float], logits: NDArray[np.float32], top: float) -> int:
        """How many of the descending weights reach the share top_p of all (at least one; all where none does)."""
        p = self.params
        if p.top_p >= 1.0:
            return len(weights)
        wanted = p.top_p * (math.fsum(weights) if p.top_k else _core.sum_exp(logits, top))
        reached = 0.0
        for index, weight in enumerate(weights):
            reached += weight
            if reached >= wanted:
                return index + 1
        return len(weights)

    def _penalized(self, logits: NDArray[np.float32], history: Sequence[int]) -> NDArray[np.float32]:
        p = self.params
        if p.repeat_penalty == 1.0 or p.repeat_last_n == 0 or not history:
            return logits
        seen = np.unique(history if p.repeat_last_n < 0 else history[-p.repeat_last_n :])
        logits = logits.copy()
        values, penalty = logits[seen], np.float32(p.repeat_penalty)
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        return logits

    def _draw(self, weights: list[float]) -> int:
        point = self._random.random() * math.fsum(weights)
        for index, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return index
        return len(weights) - 1


def _softmax(scores: NDArray[np.float32], temperature: float) -> list[float]:
    # math.exp on few numbers: NumPy's own exp differs between CPUs in its last bit.
    top = float(scores[0])
    weights = [math.exp((float(s) - top) / temperature) for s in scores]
    total = math.fsum(weights)
    return [w / total for w in weights]


def _kept_by_min_p(weights: list[float], min_p: float) -> int:
    """How many of the descending weights are at least ``min_p`` times the first."""
    return max(1, sum(weight >= min_p * weights[0] for weight in weights))
