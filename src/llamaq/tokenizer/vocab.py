"""The vocabulary of a GGUF file: each token's text, score and type."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import TokenizerError

from .metadata import Metadata, log, numbers, strings

__all__ = ["TokenType", "Vocab"]


class TokenType(IntEnum):
    """What a token is, by its number in ``tokenizer.ggml.token_type``."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Vocab:
    """Token texts as stored (UTF-8, in the scheme's own spelling), with their scores and types.

    Attributes:
        tokens: text of each id.
        ids: id of each text; of equal texts the lowest id, of empty ones none.
        types: uint8, shape (n_vocab,), `TokenType` numbers; a copy that special.py corrects.
        scores: float32, shape (n_vocab,), or None where the file has none.
    """

    def __init__(self, metadata: Metadata) -> None:
        """Reads and checks ``tokenizer.ggml.tokens``, ``.scores`` and ``.token_type``; else TokenizerError."""
        tokens = strings(metadata, "tokenizer.ggml.tokens")
        if not tokens:
            state = "missing" if tokens is None else "empty"
            raise TokenizerError(
                f"tokenizer.ggml.tokens is {state}, so there is no vocabulary; convert the model again"
            )
        self.tokens = tokens
        scores = numbers(metadata, "tokenizer.ggml.scores", len(tokens))
        self.scores = None if scores is None else scores[: len(tokens)].astype(np.float32)
        self.types = _types(metadata, len(tokens))
        self.ids = dict(zip(reversed(tokens), range(len(tokens) - 1, -1, -1), strict=True))
        self.ids.pop(b"", None)

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, token: int) -> str:
        """The token's text as stored; bytes that are not UTF-8 show as U+FFFD."""
        return self.tokens[token].decode("utf-8", "replace")

    def of_type(self, *types: TokenType) -> list[int]:
        """The ids of these types, ascending."""
        ids: list[int] = np.flatnonzero(np.isin(self.types, types)).tolist()
        return ids

    def byte_ids(self) -> list[int | None]:
        """The token of each of the 256 bytes where one exists: ``<0x41>``, or else a token ``A`` itself."""
        return [self.ids.get(b"<0x%02X>" % byte, self.ids.get(bytes([byte]))) for byte in range(256)]


def _types(metadata: Metadata, n_vocab: int) -> NDArray[Any]:
    stored = numbers(metadata, "tokenizer.ggml.token_type", n_vocab)
    if stored is None:
        log.warning("tokenizer.ggml.token_type is missing: every token counts as normal text")
        return np.full(n_vocab, TokenType.NORMAL, dtype=np.uint8)
    known = (stored >= 0) & (stored <= max(TokenType))
    return np.where(known, stored, TokenType.UNDEFINED).astype(np.uint8)[:n_vocab]
