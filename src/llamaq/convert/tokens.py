"""The vocabulary while it is read: texts, types and scores by id, no more than the embedding table has rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from llamaq.convert.section import is_text, shown
from llamaq.errors import ModelError
from llamaq.tokenizer import TokenType

__all__ = ["ADDED_SCORE", "Tokens", "expect_rows"]

ADDED_SCORE = -1000.0  # llama.cpp gives it to tokens that no merge makes


def expect_rows(count: int, rows: int) -> None:
    """Raises ModelError for a vocabulary of more tokens than the embedding table has rows."""
    if count > rows:
        raise ModelError(
            f"the vocabulary has {count} tokens, the embedding table {rows} rows; the folder mixes two models"
        )


class Tokens:
    """``texts``, ``types`` and ``scores`` by id (a text of None: no such token), and the scheme's other ``keys``."""

    def __init__(self, rows: int) -> None:
        self.texts: list[str | None] = [None] * rows
        self.types = [TokenType.UNUSED] * rows
        self.scores = [ADDED_SCORE] * rows
        self.keys: dict[str, Any] = {}

    def put(self, id: Any, text: Any, type: TokenType, score: float = 0.0) -> None:
        """Sets a token. Raises ModelError for what is no text, and for an id that is none or has no row."""
        if not is_text(text):
            raise ModelError(f"the vocabulary: token {shown(id)}: expected a text, got {shown(text)}")
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < len(self.texts):
            raise ModelError(
                f"the vocabulary: token {shown(text)}: expected an id from 0 to {len(self.texts) - 1}, as the "
                f"embedding table has {len(self.texts)} rows, got {shown(id)}; the folder mixes two models"
            )
        self.texts[id], self.types[id], self.scores[id] = text, type, score

    def ids(self) -> dict[str, int]:
        """The id of each text; of equal texts the lowest."""
        return {text: id for id, text in reversed(list(enumerate(self.texts))) if text is not None}

    def columns(self) -> dict[str, Any]:
        """The keys for texts, types and (where the scheme has them) scores; ids without a token are unused ones."""
        keys = {
            "tokenizer.ggml.tokens": [f"[PAD{i}]" if text is None else text for i, text in enumerate(self.texts)],
            "tokenizer.ggml.token_type": np.array(self.types, np.int32),
        }
        if self.keys["tokenizer.ggml.model"] not in ("gpt2", "bert"):
            keys["tokenizer.ggml.scores"] = np.array(self.scores, np.float32)
        return keys
