"""SentencePiece's byte-pair encoding (``llama``): merges by score, byte tokens for what is not in the vocabulary.

Source: Kudo and Richardson 2018, arXiv:1808.06226.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import ClassVar

import numpy as np

from llamaq.errors import TokenizerError

from .base import Settings, Tokenizer
from .merging import SPACE, Memo, merge, word_pattern
from .metadata import Metadata

__all__ = ["SentencePieceTokenizer", "joints"]

_SPACE_BYTES = SPACE.encode()


class SentencePieceTokenizer(Tokenizer):
    """Every pair of symbols whose text is a token may merge, those of the highest score first."""

    keeps_raw_bytes: ClassVar[bool] = True

    def __init__(self, metadata: Metadata) -> None:
        roles = {"bos": 1, "eos": 2, "unk": 0}
        super().__init__(metadata, Settings(roles, add_bos=True, add_space_prefix=True))
        if self.vocab.scores is None:
            raise TokenizerError(
                "tokenizer.ggml.scores is missing, and a tokenizer of type 'llama' merges by it; "
                "convert the model again"
            )
        ranks = np.unique(-self.vocab.scores, return_inverse=True)[1].tolist()  # equal scores, equal ranks
        self._ranks: dict[bytes, int] = dict(zip(self.vocab.tokens, ranks, strict=True))
        self._bytes = self.vocab.byte_ids()
        self._word = word_pattern(joints(self.vocab.tokens))
        self._memo = Memo(self._encode_word)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        if self.add_space_prefix and after_special:
            text = " " + text
        words = self._word.findall(text.replace(" ", SPACE))
        return list(chain.from_iterable(self._memo.map(words)))

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for symbol in merge([c.encode("utf-8", "surrogateescape") for c in word], self._ranks, b""):
            id = self.vocab.ids.get(symbol)
            if id is not None:
                ids.append(id)
            else:
                ids += self._fallback(symbol)
        return ids

    def _fallback(self, symbol: bytes) -> list[int]:
        """Byte tokens, or the unknown token where the vocabulary lacks one of them."""
        ids = [id for byte in symbol if (id := self._bytes[byte]) is not None]
        if len(ids) == len(symbol):
            return ids
        if self.unk_id is None:
            raise TokenizerError(
                f"{symbol!r} has no token, no byte tokens and no unknown token: this vocabulary cannot encode it"
            )
        return [self.unk_id]

    def _spell(self, token: bytes) -> bytes:
        return token.replace(_SPACE_BYTES, b" ")


def joints(tokens: list[bytes]) -> set[str]:
    """The characters that tokens have right before a `SPACE`, see `word_pattern`."""
    texts = (token.decode("utf-8", "replace") for token in tokens if token.find(_SPACE_BYTES, 1) > 0)
    return {before for text in texts for before, char in pairwise(text) if char == SPACE}
