"""BERT's WordPiece (``bert``): normalized words, each cut greedily into the longest tokens.

Sources: Devlin et al. 2019, arXiv:1810.04805; GGUF files spell the beginning of a word ▁, not its rest ##.
"""

from __future__ import annotations

import unicodedata
from itertools import chain

from .base import Settings, Tokenizer
from .merging import SPACE, Memo
from .metadata import Metadata, flag

__all__ = ["WordPieceTokenizer"]

_IDEOGRAPHS = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


class WordPieceTokenizer(Tokenizer):
    """A word that cannot be cut into tokens to its end becomes the unknown token."""

    def __init__(self, metadata: Metadata) -> None:
        roles = {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103}
        super().__init__(metadata, Settings(roles, add_bos=True, clean_spaces=True))
        self._suffix = () if self.special.sep is None else (self.special.sep,)
        lower = flag(metadata, "tokenizer.ggml.normalizer.lowercase", True)
        strip = flag(metadata, "tokenizer.ggml.normalizer.strip_accents", lower)
        self._normalization = _Normalization(lower, strip)
        self._longest = max(len(self.vocab.text(id)) for id in range(self.n_vocab))
        self._memo = Memo(self._encode_word)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        words = text.translate(self._normalization).split()
        return list(chain.from_iterable(self._memo.map(words)))

    def _encode_word(self, word: str) -> list[int]:
        word = SPACE + word
        encoded: list[int] = []
        start, ids = 0, self.vocab.ids
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                id = ids.get(word[start:end].encode())
                if id is not None:
                    encoded.append(id)
                    start = end
                    break
            else:
                return [self.unk_id] if self.unk_id is not None else []
        return encoded

    def _spell(self, token: bytes) -> bytes:
        return token.replace(SPACE.encode(), b" ")


class _Normalization(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met.

    Lowers case, drops accents and control characters, and puts spaces around each word of one character:
    punctuation and ideographs.
    """

    def __init__(self, lower: bool, strip_accents: bool) -> None:
        super().__init__()
        self._lower = lower
        self._strip_accents = strip_accents

    def __missing__(self, code: int) -> str:
        char = self[code] = self._normalize(chr(code))
        return char

    def _normalize(self, char: str) -> str:
        if self._strip_accents:
            char = unicodedata.normalize("NFD", char)[0]  # the marks that follow would be dropped anyway
        category = unicodedata.category(char)
        if (char.isspace() and category != "Cc") or char in "\t\n\v\f\r\x85":
            return " "
        if char == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
            return ""
        if self._strip_accents and category[0] == "M":
            return ""
        alone = category[0] == "P" or (char < "\x7f" and category[0] == "S")
        alone = alone or any(first <= ord(char) <= last for first, last in _IDEOGRAPHS)
        char = char.lower()[0] if self._lower else char
        return f" {char} " if alone else char
