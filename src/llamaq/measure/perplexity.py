"""Perplexity: how many equally likely tokens a model hesitates between, over a text that it did not write."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.llm.llm import LLM
from llamaq.measure.text import log_sums, scored_from

__all__ = ["Perplexity", "mean_and_error", "perplexity"]


@dataclass(frozen=True)
class Perplexity:
    """``losses`` of the scored tokens, float64 (chunks, scored of each) in nats; ``tokens`` read in ``seconds``."""

    losses: NDArray[np.float64]
    n_ctx: int
    tokens: int
    seconds: float

    @property
    def value(self) -> float:
        """exp of the mean loss."""
        return float(np.exp(self.losses.mean()))

    @property
    def uncertainty(self) -> float:
        """Standard error of ``value``, as if the losses were independent (llama.cpp's measure)."""
        return self.value * mean_and_error(self.losses)[1]


def perplexity(llm: LLM, chunks: NDArray[np.int32], *, progress: Progress | None = None) -> Perplexity:
    """Perplexity over a text, cut into ``chunks`` by `chunks_of`.

    ``progress`` gets the tokens read and in total. Raises ContextOverflowError where a chunk exceeds the context.
    """
    began = time.perf_counter()
    count, n_ctx = chunks.shape
    first = scored_from(n_ctx)
    losses = np.empty((count, n_ctx - 1 - first))
    for i, chunk in enumerate(chunks):
        logits = llm.logits(chunk[:-1].tolist(), first=first)
        losses[i] = losses_of(logits, chunk[first + 1 :])
        if progress is not None:
            progress((i + 1) * n_ctx, chunks.size)
    return Perplexity(losses, n_ctx, chunks.size, time.perf_counter() - began)


def losses_of(logits: NDArray[np.float32], following: NDArray[np.int32]) -> NDArray[np.float64]:
    """Negative log-probability of the token that follows each row of logits, float64 (rows,)."""
    return log_sums(logits) - logits[np.arange(len(logits)), following]


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean, and its standard error as if the values were independent; 0 where there is but one."""
    error = float(values.std() / np.sqrt(values.size - 1)) if values.size > 1 else 0.0
    return float(values.mean()), error
