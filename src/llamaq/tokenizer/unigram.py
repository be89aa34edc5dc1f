"""SentencePiece's unigram model (``t5``): the tokens of greatest total log-probability, by Viterbi's algorithm.

Source: Kudo 2018, arXiv:1804.10959.
"""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import numpy as np

from llamaq.errors import TokenizerError

from .base import Settings, Tokenizer
from .charsmap import Charsmap
from .merging import SPACE, Memo, word_pattern
from .metadata import Metadata, flag, numbers
from .spm import joints
from .vocab import TokenType

__all__ = ["UnigramTokenizer"]

_UNKNOWN_PENALTY = 10.0  # log-probability below that of the worst token


class UnigramTokenizer(Tokenizer):
    """Normalizes a text, spells its spaces ▁ and cuts it into the likeliest tokens.

    A character without a token becomes byte tokens where the vocabulary has all 256, else the unknown token.
    """

    keeps_raw_bytes: ClassVar[bool] = True  # normalization turns them into U+FFFD

    def __init__(self, metadata: Metadata) -> None:
        super().__init__(metadata, Settings({"eos": 1, "unk": 2, "pad": 0}, add_eos=True))
        if self.vocab.scores is None or self.unk_id is None:
            missing = "scores" if self.vocab.scores is None else "unknown_token_id"
            raise TokenizerError(
                f"tokenizer.ggml.{missing} is missing, and a tokenizer of type 't5' needs it; convert the model again"
            )
        self._merge_spaces = flag(metadata, "tokenizer.ggml.remove_extra_whitespaces", False)
        blob = numbers(metadata, "tokenizer.ggml.precompiled_charsmap")
        charsmap = Charsmap(b"" if blob is None else blob.astype(np.uint8).tobytes())
        self._between_spaces = not charsmap.spans_spaces
        self._normalized = Memo(charsmap.normalize)
        self._memo = Memo(self._encode_word)
        byte_ids = [id for id in self.vocab.byte_ids() if id is not None and self.vocab.types[id] == TokenType.BYTE]
        self._bytes = byte_ids if len(byte_ids) == 256 else []  # SentencePiece's byte_fallback
        self._set_candidates()

    def _set_candidates(self) -> None:
        """The tokens that text may become, with their scores; user-defined ones are always preferred."""
        vocab = self.vocab
        assert vocab.scores is not None
        scores = np.where(vocab.types == TokenType.USER_DEFINED, 0.0, vocab.scores)
        normal = scores[vocab.types == TokenType.NORMAL]
        self._scores: list[float] = scores.tolist()
        self._unknown_score = float(normal.min() if normal.size else 0.0) - _UNKNOWN_PENALTY
        candidates = vocab.of_type(TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
        tokens = [vocab.tokens[id] for id in candidates]
        texts = (token.decode("utf-8", "replace") for token in reversed(tokens))
        self._candidates = dict(zip(texts, reversed(candidates), strict=True))  # the lowest id of equal texts wins
        self._longest = max(map(len, self._candidates), default=1)
        self._word = word_pattern(joints(tokens))

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        words = self._word.findall(self._escape(self._normalize(text)))
        ids = list(chain.from_iterable(self._memo.map(words)))
        unk = self.unk_id
        # One unknown token stands for a whole run of unknown characters, also across words.
        return [id for i, id in enumerate(ids) if id != unk or not i or ids[i - 1] != unk] if unk in ids else ids

    def _normalize(self, text: str) -> str:
        pieces = text.split(" ") if self._between_spaces else [text]
        return " ".join(self._normalized.map(pieces))

    def _escape(self, text: str) -> str:
        if self._merge_spaces:
            # SentencePiece, too, takes what the text itself ends with for such spaces.
            return "".join(SPACE + word for word in text.split(" ") if word).rstrip(SPACE)
        text = " " + text if self.add_space_prefix and text.strip(" ") else text
        return text.replace(" ", SPACE)

    def _encode_word(self, word: str) -> list[int]:
        candidates, scores, unk = self._candidates, self._scores, self.unk_id
        assert unk is not None
        n = len(word)
        best = [0.0, *[-float("inf")] * n]  # score of the best tokens up to each place
        last = [(unk, 0)] * (n + 1)  # the last of these tokens, and where it begins
        for start in range(n):
            here = best[start]
            for end in range(start + 1, min(n, start + self._longest) + 1):
                id = candidates.get(word[start:end])
                if id is not None and here + scores[id] > best[end]:
                    best[end], last[end] = here + scores[id], (id, start)
            if word[start] not in candidates and here + self._unknown_score > best[start + 1]:
                best[start + 1], last[start + 1] = here + self._unknown_score, (unk, start)
        ids: list[int] = []
        while n:
            id, start = last[n]
            ids += [self._bytes[b] for b in reversed(word[start:n].encode())] if id == unk and self._bytes else [id]
            n = start
        return ids[::-1]

    def _spell(self, token: bytes) -> bytes:
        return token.replace(SPACE.encode(), b" ")
