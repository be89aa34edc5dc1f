"""``Sampler``: the state of sampling for one text."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.boundary.arguments import INT32, instance, shown, whole, wholes
from llamaq.errors import SamplingError, not_numbers
from llamaq.structure import Matcher
from llamaq.tokenizer import Tokenizer

from .chain import Chain
from .logprobs import LogProbabilities
from .params import SamplingParams
from .turns import in_turn

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens after ``params`` for one text, whose tokens it is told by ``feed`` (the prompt's) and ``accept``
    (each that follows). ``seed`` is the one in use; a seed gives the same choices on every CPU.

    ``tokenizer`` is needed for ``min_tokens``, ``ignore_eos``, ``structure`` and DRY's breakers. Raises ``ValueError``
    where it is missing, ``StructureError`` where the structure does not fit it.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer | None = None) -> None:
        self.params = instance("params", params, SamplingParams)
        self.seed = random.SystemRandom().getrandbits(32) if params.seed is None else params.seed
        self.history = array("i")
        self._made = 0
        self._chain = Chain(params, tokenizer, random.Random(self.seed))
        self._candidates = _core.Candidates()
        self._log_probabilities = None if params.logprobs is None else LogProbabilities(params.logprobs)
        self._ends: list[int] = []
        self._matcher: Matcher | None = None
        if tokenizer is not None:
            instance("tokenizer", tokenizer, Tokenizer)  # type: ignore[type-abstract]
            self._ends = sorted(tokenizer.eog_ids)
            self._matcher = None if params.structure is None else Matcher(params.structure, tokenizer)
        elif params.min_tokens or params.ignore_eos or params.structure is not None:
            raise ValueError("min_tokens, ignore_eos and structure need the tokenizer: Sampler(params, tokenizer)")

    def feed(self, ids: Iterable[int]) -> None:
        """Tells tokens of the prompt."""
        self.history.extend(wholes("ids", ids, "token ids", 0, INT32))

    def accept(self, token: int) -> None:
        """Tells a token that joined the text, sampled or forced."""
        self.history.append(whole("token", token, 0, INT32))
        self._made += 1
        self._chain.selector.accept(token)
        if self._matcher is not None:
            self._matcher.accept(token)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token; ``logits`` (vocabulary,) float32 are left as they are.

        A structure is asked about the token that was drawn; where it does not allow it, a second one is drawn from
        the tokens that it allows, through the whole chain. Raises ``ModelError`` where the logits are not numbers (a
        damaged model), ``SamplingError`` where the settings forbid every token, ``StructureError`` where following
        the structure exceeds a limit.
        """
        if self._log_probabilities is not None:
            self._log_probabilities.load(logits)
        if self._matcher is not None and self._matcher.finished:
            return self._matcher.end
        logits = self._processed(logits)
        self._narrow(logits)
        token = self._chain.draw(self._candidates)
        if self._matcher is None or self._matcher.allows(token):
            return token
        self._narrow(logits, self._matcher.mask())
        return self._chain.draw(self._candidates)

    def forced(self) -> list[int]:
        """Tokens that the structure forces next: they need no sampling, only ``accept``. The last may be an end
        token."""
        return [] if self._matcher is None else self._matcher.forced()

    def foreseen(self) -> list[int]:
        """The same as a guess, which changes nothing."""
        return [] if self._matcher is None else self._matcher.foreseen()

    def logprob(self, token: int) -> float | None:
        """The model's log-probability of ``token`` in the latest distribution, before any sampler; None where
        ``params.logprobs`` is."""
        return None if self._log_probabilities is None else self._log_probabilities.of(token)

    def top_logprobs(self) -> list[tuple[int, float]]:
        """The ``params.logprobs`` most likely tokens of the latest distribution and their log-probabilities."""
        return [] if self._log_probabilities is None else self._log_probabilities.top()

    def _narrow(self, logits: NDArray[np.float32], mask: bytes | None = None) -> None:
        p, candidates = self.params, self._candidates
        if not math.isfinite(candidates.load(logits)):
            raise not_numbers("logits")
        if mask is not None:
            candidates.keep_bits(mask)
        if p.logit_bias:
            ids = list(p.logit_bias)
            bias = np.fromiter(p.logit_bias.values(), np.float32, len(ids))
            candidates.set(ids, candidates.get(ids) + bias)
        if p.ignore_eos or self._made < p.min_tokens:
            candidates.set(self._ends, np.full(len(self._ends), -np.inf, np.float32))
        if candidates.top == -math.inf:
            what = "logit_bias, logit_processors, min_tokens, ignore_eos and structure"
            raise SamplingError(f"no token is left to choose from: {what} together forbid all of them")
        self._chain.narrow(candidates, self.history)

    def _processed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the logit processors make of the logits."""
        if not self.params.logit_processors:
            return logits
        shape = logits.shape
        logits = logits.copy()
        ids = np.array(self.history, np.int32)
        for process in self.params.logit_processors:
            with in_turn(process):
                changed = process(ids, logits)
            try:
                logits = logits if changed is None else np.asarray(changed, np.float32)
            except (TypeError, ValueError, OverflowError):
                raise TypeError(f"a logit processor must return logits, float32, got {shown(changed)}") from None
            if logits.shape != shape:
                raise ValueError(f"a logit processor must return logits of shape {shape}, got {logits.shape}")
        return logits
