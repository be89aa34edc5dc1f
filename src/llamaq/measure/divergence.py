"""How far a model's probabilities are from those of another, token by token over a text.

The measures are llama-perplexity's (``--kl-divergence``), without its file of logits: both models read each chunk, and
only their few numbers for each token are kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.errors import ModelError
from llamaq.llm.llm import LLM
from llamaq.measure.perplexity import Perplexity, mean_and_error
from llamaq.measure.text import log_sums, scored_from

__all__ = ["Divergence", "divergence"]

_ROWS = 8  # rows of logits worked on at a time, so that temporary arrays stay in the cache


@dataclass(frozen=True)
class Divergence:
    """What two models say of the scored tokens; arrays are (chunks, scored of each).

    ``kl`` is the Kullback-Leibler divergence from the base's probabilities to the other's in nats, ``same_top``
    whether both put the same token first, ``change`` how much the probability of the token that came has grown.
    """

    base: Perplexity
    other: Perplexity
    kl: NDArray[np.float64]
    same_top: NDArray[np.bool_]
    change: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """The numbers by name; ``*_error`` is the standard error of the one before, as if tokens were independent."""
        ratio, ratio_error = mean_and_error(self.other.losses - self.base.losses)
        kl, kl_error = mean_and_error(self.kl)
        top, top_error = mean_and_error(self.same_top.astype(np.float64))
        squares, squares_error = mean_and_error(self.change**2)
        rms = squares**0.5
        return {
            "perplexity": self.other.value,
            "perplexity_error": self.other.uncertainty,
            "base_perplexity": self.base.value,
            "base_perplexity_error": self.base.uncertainty,
            "log_perplexity_ratio": ratio,
            "log_perplexity_ratio_error": ratio_error,
            "kl_mean": kl,
            "kl_mean_error": kl_error,
            "kl_median": float(np.median(self.kl)),
            "kl_99": float(np.quantile(self.kl, 0.99)),
            "kl_99_9": float(np.quantile(self.kl, 0.999)),
            "kl_max": float(self.kl.max()),
            "same_top": top,
            "same_top_error": top_error,
            "rms_probability_change": rms,
            "rms_probability_change_error": squares_error / (2 * rms) if rms else 0.0,
        }


def divergence(base: LLM, other: LLM, chunks: NDArray[np.int32], *, progress: Progress | None = None) -> Divergence:
    """Both models over a text, cut into ``chunks`` by `chunks_of`.

    ``progress`` gets the tokens read and in total. Raises ModelError where the models do not share a vocabulary,
    ContextOverflowError where a chunk exceeds a context.
    """
    _check_vocabularies(base, other)
    count, n_ctx = chunks.shape
    first = scored_from(n_ctx)
    shape = (count, n_ctx - 1 - first)
    losses, kl, change = np.empty((2, *shape)), np.empty(shape), np.empty(shape)
    same_top = np.empty(shape, np.bool_)
    seconds = np.zeros(2)
    for i, chunk in enumerate(chunks):
        began = time.perf_counter()
        expected = base.logits(chunk[:-1].tolist(), first=first)
        between = time.perf_counter()
        found = other.logits(chunk[:-1].tolist(), first=first)
        seconds += (between - began, time.perf_counter() - between)
        kl[i], same_top[i], losses[:, i] = compare_logits(expected, found, chunk[first + 1 :])
        change[i] = np.exp(-losses[1, i]) - np.exp(-losses[0, i])
        if progress is not None:
            progress((i + 1) * n_ctx, chunks.size)
    first_model, second_model = (Perplexity(losses[i], n_ctx, chunks.size, float(seconds[i])) for i in (0, 1))
    return Divergence(first_model, second_model, kl, same_top, change)


def compare_logits(
    base: NDArray[np.float32], other: NDArray[np.float32], following: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Of each row of logits: the divergence, whether the tops agree, and the losses (2, rows) of what follows.

    KL = sum p (b - q) - (log_sum(b) - log_sum(q)): differences of near numbers are exact, so small divergences are too.
    """
    base_sums, weighted = np.empty(len(base)), np.empty(len(base))
    for i in range(0, len(base), _ROWS):
        part = slice(i, i + _ROWS)
        top = base[part].max(axis=1, keepdims=True)
        chances = np.exp(base[part] - top)
        total = chances.sum(axis=1, dtype=np.float64)
        chances *= base[part] - other[part]
        base_sums[part] = top[:, 0] + np.log(total)
        weighted[part] = chances.sum(axis=1, dtype=np.float64) / total
    sums, rows = np.stack((base_sums, log_sums(other))), np.arange(len(base))
    losses = sums - np.stack((base[rows, following], other[rows, following]))
    kl = np.maximum(weighted - (sums[0] - sums[1]), 0.0)  # rounding may fall below what mathematics allows
    return kl, base.argmax(axis=1) == other.argmax(axis=1), losses


def _check_vocabularies(base: LLM, other: LLM) -> None:
    texts = [llm.metadata.get("tokenizer.ggml.tokens") for llm in (base, other)]
    sizes = [llm.plan.out_cols for llm in (base, other)]
    if sizes[0] != sizes[1] or list(texts[0] or ()) != list(texts[1] or ()):  # type: ignore[arg-type]
        raise ModelError(
            f"expected two files with one vocabulary, got {sizes[0]} and {sizes[1]} tokens, or other texts for them; "
            "compare files of the same model"
        )
