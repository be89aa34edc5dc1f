"""Byte-pair encoding by a list of merges: GPT-2's byte-level scheme (``gpt2``), and Gemma 4's over characters.

Sources: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (GPT-2) for the byte alphabet.
"""

from __future__ import annotations

from itertools import chain

from llamaq.errors import TokenizerError

from .base import Settings, Tokenizer
from .merging import SPACE, Memo, merge, word_pattern
from .metadata import Metadata, strings
from .pretokenizers import Pretokenizer

__all__ = ["ByteLevelTokenizer", "CharacterTokenizer"]

_SPACE_BYTES = SPACE.encode()


def _alphabet() -> list[str]:
    """GPT-2's spelling of the 256 bytes: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_SPELLING = [char.encode() for char in _alphabet()]
_BYTE_OF = {char: byte for byte, char in enumerate(_alphabet())}


class ByteLevelTokenizer(Tokenizer):
    """Splits a text by the pre-tokenizer and merges the bytes of each word.

    A byte that the vocabulary lacks is left out, as in llama.cpp; complete vocabularies have all 256.
    """

    def __init__(self, metadata: Metadata, pre: Pretokenizer) -> None:
        super().__init__(metadata, Settings({}, add_bos=pre.add_bos, clean_spaces=pre.clean_spaces))
        self._ranks = _ranks(metadata)
        self._pre = pre
        self._memo = Memo(self._encode_word)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        return list(chain.from_iterable(self._memo.map(self._pre.split(text))))

    def _encode_word(self, word: str) -> list[int]:
        ids = self.vocab.ids
        symbols = [_SPELLING[byte] for byte in word.encode()]
        if self._pre.ignore_merges and (whole := ids.get(b"".join(symbols))) is not None:
            return [whole]
        return [id for symbol in merge(symbols, self._ranks, b" ") if (id := ids.get(symbol)) is not None]

    def _spell(self, token: bytes) -> bytes:
        try:
            return bytes([_BYTE_OF[char] for char in token.decode()])
        except (KeyError, UnicodeDecodeError):
            return token  # a character outside the byte alphabet: the file calls an added token normal


class CharacterTokenizer(Tokenizer):
    """Merges the characters of a line, with spaces spelled ▁ and byte tokens for unknown characters."""

    def __init__(self, metadata: Metadata, pre: Pretokenizer) -> None:
        super().__init__(metadata, Settings({}, add_bos=pre.add_bos, clean_spaces=pre.clean_spaces))
        self._ranks = _ranks(metadata)
        self._bytes = self.vocab.byte_ids()
        before_space = (pair[: pair.index(b" ")] for pair in self._ranks if b" " + _SPACE_BYTES in pair)
        self._word = word_pattern((left.decode("utf-8", "replace")[-1:] for left in before_space), lines=True)
        self._memo = Memo(self._encode_word)

    def _encode_text(self, text: str, after_special: bool) -> list[int]:
        words = self._word.findall(text.replace(" ", SPACE))
        return list(chain.from_iterable(self._memo.map(words)))

    def _encode_word(self, word: str) -> list[int]:
        ids = self.vocab.ids
        if word[0] == "\n" and (run := ids.get(word.encode())) is not None:
            return [run]
        encoded: list[int] = []
        for symbol in merge([char.encode() for char in word], self._ranks, b" "):
            id = ids.get(symbol)
            if id is not None:
                encoded.append(id)
            else:
                encoded += [byte_id for byte in symbol if (byte_id := self._bytes[byte]) is not None]
        return encoded

    def _spell(self, token: bytes) -> bytes:
        return token.replace(_SPACE_BYTES, b" ")


def _ranks(metadata: Metadata) -> dict[bytes, int]:
    """Rank of each merge "left right", the lowest first."""
    merges = strings(metadata, "tokenizer.ggml.merges")
    if merges is None:
        raise TokenizerError(
            "tokenizer.ggml.merges is missing, and byte-pair encoding works by it; convert the model again"
        )
    return dict(zip(reversed(merges), range(len(merges) - 1, -1, -1), strict=True))
