"""Penalties: tokens of the latest text become less likely.

Sources: Keskar et al. 2019, arXiv:1909.05858 (repeat); OpenAI's API (presence and frequency).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from llamaq._core import Candidates

from .params import SamplingParams

__all__ = ["penalize"]


def penalize(candidates: Candidates, params: SamplingParams, history: Sequence[int]) -> None:
    """A positive logit is divided by the repeat penalty and any other multiplied; then the frequency penalty times the
    token's count and the presence penalty are taken off."""
    p = params
    if p.repeat_last_n == 0 or (p.repeat_penalty, p.presence_penalty, p.frequency_penalty) == (1.0, 0.0, 0.0):
        return
    counts = Counter(history if p.repeat_last_n < 0 else history[-p.repeat_last_n :])
    ids = list(counts)
    x = candidates.get(ids)
    repeat = np.float32(p.repeat_penalty)
    x = np.where(x > 0, x / repeat, x * repeat)
    often = np.fromiter(counts.values(), np.float32, len(ids))
    candidates.set(ids, x - (often * np.float32(p.frequency_penalty) + np.float32(p.presence_penalty)))
