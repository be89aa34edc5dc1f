"""Drafts for speculative decoding. They change the speed of an answer and not its tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["LlamaDraftModel", "LlamaPromptLookupDecoding"]


class LlamaDraftModel(ABC):
    """Guesses the next tokens of a text."""

    @abstractmethod
    def __call__(self, input_ids: NDArray[np.intc], /, **kwargs: Any) -> NDArray[np.intc]:
        """Token ids that may follow ``input_ids``."""


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Guesses what followed the last few tokens when they were in the text before."""

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = max_ngram_size
        self.num_pred_tokens = num_pred_tokens

    @staticmethod
    def find_candidate_pred_tokens(
        input_ids: NDArray[np.intc], max_ngram_size: int, num_pred_tokens: int
    ) -> NDArray[np.intc]:
        """What followed the longest end of ``input_ids`` (at most ``max_ngram_size`` tokens) where it stood first."""
        for size in range(min(max_ngram_size, len(input_ids) - 1), 0, -1):
            found = (sliding_window_view(input_ids[:-1], size) == input_ids[-size:]).all(axis=1).nonzero()[0]
            if len(found):
                after = int(found[0]) + size
                return input_ids[after : after + num_pred_tokens]
        return np.array([], np.intc)

    def __call__(self, input_ids: NDArray[np.intc], /, **kwargs: Any) -> NDArray[np.intc]:
        return self.find_candidate_pred_tokens(input_ids, self.max_ngram_size, self.num_pred_tokens)
