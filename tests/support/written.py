"""A model that writes what a test wants."""

from __future__ import annotations

import math
from typing import Any

from llamaq.tokenizer import Tokenizer

__all__ = ["Written"]


class Written:
    """A logit processor for one answer, which then is this text."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.eos_id is not None
        self._ids = [*tokenizer.encode(text, add_special=False, continuation=True), tokenizer.eos_id]
        self._prompt: int | None = None

    def __call__(self, ids: Any, logits: Any) -> Any:
        if self._prompt is None:
            self._prompt = len(ids)
        logits[:] = -math.inf
        logits[self._ids[len(ids) - self._prompt]] = 0
        return logits
