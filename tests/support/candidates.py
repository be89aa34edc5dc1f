"""What a sampler leaves to choose from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llamaq import _core
from llamaq.sampling import Sampler


def candidates(sampler: Sampler, logits: NDArray[np.float32]) -> dict[int, float]:
    """The tokens that the chain leaves and their probabilities, the most likely first; without the structure."""
    sampler._narrow(sampler._processed(logits))
    ids, p = sampler._candidates.ids, sampler._candidates.probabilities
    order = _core.top_k(sampler._candidates.logits, len(ids))
    order = order[p[order] > 0]
    return dict(zip(ids[order].tolist(), p[order].tolist(), strict=True))
