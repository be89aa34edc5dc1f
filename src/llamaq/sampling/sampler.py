"""``Sampler``: the state of sampling for one text."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.errors import ModelError, SamplingError
from llamaq.tokenizer import Tokenizer

from .chain import Chain
from .params import SamplingParams

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens after ``params`` for one text, whose tokens it is told by ``feed`` (the prompt's) and ``accept``
    (each that follows). ``seed`` is the one in use; a seed gives the same choices on every CPU.

    ``tokenizer`` is needed for ``min_tokens``, ``ignore_eos`` and DRY's breakers. Raises ``ValueError``
    where it is missing.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is None and (params.min_tokens or params.ignore_eos):
            raise ValueError("min_tokens and ignore_eos need the model's tokenizer: Sampler(params, tokenizer)")
        self.params = params
        self.seed = random.SystemRandom().getrandbits(32) if params.seed is None else params.seed
        self.history = array("i")
        self._chain = Chain(params, tokenizer, random.Random(self.seed))
        self._ends = sorted(tokenizer.eog_ids) if tokenizer is not None else []
        self._candidates = _core.Candidates()
        self._made = 0
        self._raw: NDArray[np.float32] | None = None

    def feed(self, ids: Iterable[int]) -> None:
        """Tells tokens of the prompt."""
        self.history.extend(ids)

    def accept(self, token: int) -> None:
        """Tells a token that joined the text, sampled or forced."""
        self.history.append(token)
        self._made += 1
        self._chain.selector.accept(token)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token; ``logits`` (vocabulary,) float32 are left as they are.

        Raises ``ModelError`` where they are not numbers (a damaged model), ``SamplingError`` where the settings forbid
        every token.
        """
        self._narrow(logits)
        return self._chain.draw(self._candidates)

    def candidates(self, logits: NDArray[np.float32]) -> tuple[list[int], list[float]]:
        """The tokens that the chain leaves and their probabilities, the most likely first; arguments and errors as in
        ``sample``."""
        self._narrow(logits)
        ids, p = self._candidates.ids, self._candidates.probabilities
        order = _core.top_k(self._candidates.logits, len(ids))
        order = order[p[order] > 0]
        return ids[order].tolist(), p[order].tolist()

    def forced(self) -> list[int]:
        """Tokens that the structure forces next: they need no sampling. An end token may be the last."""
        return []

    def logprob(self, token: int) -> float | None:
        """The model's log-probability of ``token`` in the latest distribution, before any sampler; None where
        ``params.logprobs`` is."""
        if self._raw is None:
            return None
        return float(self._raw[token]) - _core.log_sum_exp(self._raw)

    def top_logprobs(self) -> list[tuple[int, float]]:
        """The ``params.logprobs`` most likely tokens of the latest distribution and their log-probabilities."""
        if self._raw is None or not self.params.logprobs:
            return []
        total = _core.log_sum_exp(self._raw)
        return [(id, float(self._raw[id]) - total) for id in _core.top_k(self._raw, self.params.logprobs).tolist()]

    def _narrow(self, logits: NDArray[np.float32]) -> None:
        p = self.params
        self._raw = logits.copy() if p.logprobs is not None else None
        self._load(self._processed(logits))
        if p.logit_bias:
            ids = list(p.logit_bias)
            bias = np.fromiter(p.logit_bias.values(), np.float32, len(ids))
            self._candidates.set(ids, self._candidates.get(ids) + bias)
        if p.ignore_eos or self._made < p.min_tokens:
            self._candidates.set(self._ends, np.full(len(self._ends), -np.inf, np.float32))
        if self._candidates.top == -math.inf:
            raise SamplingError("logit_bias, logit_processors and min_tokens or ignore_eos together forbid every token")
        self._chain.narrow(self._candidates, self.history)

    def _load(self, logits: NDArray[np.float32]) -> None:
        if not math.isfinite(self._candidates.load(logits)):
            raise ModelError("the model gave logits that are not numbers; its file is probably damaged")

    def _processed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.params.logit_processors:
            return logits
        logits, shape = logits.copy(), logits.shape
        ids = np.array(self.history, np.int32)
        for process in self.params.logit_processors:
            changed = process(ids, logits)
            logits = logits if changed is None else np.asarray(changed, np.float32)
            if logits.shape != shape:
                raise ValueError(f"a logit processor must return logits of shape {shape}, got {logits.shape}")
        return logits
