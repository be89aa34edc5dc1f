"""What chooses one token at the end of the chain: by chance, by Mirostat, or by adaptive-p."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from llamaq import _core
from llamaq._core import Candidates

from .params import SamplingParams

__all__ = ["AdaptiveP", "Chance", "Mirostat", "Selector"]

_LOG2 = _core.log(2.0)


class Selector(Protocol):
    """Narrows the candidates, and learns from the token that came."""

    def apply(self, candidates: Candidates) -> None:
        """Leaves the distribution to draw from."""

    def chosen(self, candidates: Candidates, token: int) -> None:
        """Notes the token that was drawn; what it teaches counts once it is accepted."""

    def accept(self, token: int) -> None:
        """Learns from a token that joined the text, where it is the one that was drawn."""


class Chance:
    """Takes the distribution as it is."""

    def apply(self, candidates: Candidates) -> None:
        return

    def chosen(self, candidates: Candidates, token: int) -> None:
        return

    def accept(self, token: int) -> None:
        return


class Mirostat:
    """Keeps the surprise of the tokens near ``mirostat_tau`` bits. Source: Basu et al. 2021, arXiv:2007.14966."""

    _LOOK = 100  # tokens from which version 1 estimates the slope

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._n_vocab = 0
        self.mu = 2.0 * params.mirostat_tau
        self._drawn: tuple[int, float] | None = None

    def apply(self, candidates: Candidates) -> None:
        if self._params.mirostat == 2:
            candidates.surprise_up_to(self.mu)
        else:
            self._n_vocab = max(self._n_vocab, len(candidates))
            candidates.top_k(self._k(candidates))

    def chosen(self, candidates: Candidates, token: int) -> None:
        self._drawn = token, -_core.log(candidates.probability(token)) / _LOG2

    def accept(self, token: int) -> None:
        if self._drawn is not None and self._drawn[0] == token:
            self.mu -= self._params.mirostat_eta * (self._drawn[1] - self._params.mirostat_tau)
        self._drawn = None

    def _k(self, candidates: Candidates) -> int:
        """Version 1: the k that gives the wanted surprise if the probabilities follow Zipf's law, whose exponent
        ``s`` the most likely tokens tell."""
        likely = candidates.get(candidates.most_likely(self._LOOK).tolist())
        x = [float(logit) for logit in likely if logit > -np.inf]
        steps = [_core.log((i + 2) / (i + 1)) for i in range(len(x) - 1)]
        squares = sum(t * t for t in steps)
        s = sum(t * (x[i] - x[i + 1]) for i, t in enumerate(steps)) / squares if steps else 0.0
        if s <= 0:
            return len(candidates) if steps else 1
        log_n, e = _core.log(self._n_vocab), s - 1
        # log(e / (1 - n^-e)), which goes to -log(log n) for e to 0
        scale = _core.log(e / (1 - _core.exp(-e * log_n))) if abs(e) > 1e-9 else -_core.log(log_n)
        log_k = (scale + self.mu * _LOG2) / s
        return max(1, int(_core.exp(min(log_k, 30.0))))


class AdaptiveP:
    """Prefers tokens whose probability is near a target, which moves so that their average stays at
    ``adaptive_target``. Source: llama.cpp, pull request 17927."""

    _WIDTH, _PEAK, _SHARPNESS = 0.3, 5.0, 10.0

    def __init__(self, params: SamplingParams) -> None:
        self._target, self._decay = params.adaptive_target, params.adaptive_decay
        self._sum = self._target / (1 - self._decay)
        self._weight = 1 / (1 - self._decay)
        self._ids = np.empty(0, np.int32)
        self._probabilities = np.empty(0)
        self._drawn: tuple[int, float] | None = None

    def apply(self, candidates: Candidates) -> None:
        target = min(1.0, max(0.0, 2 * self._target - self._sum / self._weight))
        self._ids, self._probabilities = candidates.ids, candidates.probabilities
        far = np.abs(self._probabilities - target) / self._WIDTH
        logits = self._PEAK - self._SHARPNESS * far * far / (1 + far)
        candidates.replace(np.where(candidates.logits > -np.inf, logits, -np.inf).astype(np.float32))

    def chosen(self, candidates: Candidates, token: int) -> None:
        self._drawn = token, float(self._probabilities[np.searchsorted(self._ids, token)])

    def accept(self, token: int) -> None:
        if self._drawn is not None and self._drawn[0] == token:
            self._sum = self._drawn[1] + self._decay * self._sum
            self._weight = 1 + self._decay * self._weight
        self._drawn = None
