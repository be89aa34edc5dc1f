"""Log-probabilities of the model's own distribution, before any sampler."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llamaq import _core

__all__ = ["LogProbabilities"]


class LogProbabilities:
    """The log-probabilities that the latest logits give a token, and the ``top`` most likely ones."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._all = _core.Candidates()
        self._greatest = -math.inf  # NaN where one of the logits is

    def load(self, logits: NDArray[np.float32]) -> None:
        """Takes a copy of the logits (vocabulary,)."""
        self._greatest = self._all.load(logits)

    def of(self, token: int) -> float:
        """The log-probability of one token."""
        return float(self._all.get([token])[0]) - self._all.log_total

    def top(self) -> list[tuple[int, float]]:
        """Ids and log-probabilities of the most likely, in descending order; equal ones by id."""
        ids = self._all.most_likely(self._top).tolist()
        return [(id, float(x) - self._all.log_total) for id, x in zip(ids, self._all.get(ids), strict=True)]

    def likeliest(self) -> tuple[int, float] | None:
        """The most likely token and its probability; None where the logits are not numbers."""
        if not math.isfinite(self._greatest):
            return None
        id = int(self._all.most_likely(1)[0])
        return id, math.exp(self.of(id))
