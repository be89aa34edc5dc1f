"""Tokenizers that read and give bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from llamaq.gguf import GGUFFile
from llamaq.tokenizer import Tokenizer, load_tokenizer

__all__ = ["BaseLlamaTokenizer", "LlamaHFTokenizer", "LlamaTokenizer"]


class BaseLlamaTokenizer(ABC):
    """What ``Llama(tokenizer=...)`` takes."""

    @abstractmethod
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Token ids of a text; ``special`` understands the special tokens in it."""

    @abstractmethod
    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of token ids, which follow ``prev_tokens``; ``special`` shows control tokens."""


class LlamaTokenizer(BaseLlamaTokenizer):
    """The tokenizer of a model's file."""

    def __init__(self, llama: Any) -> None:
        """Of a ``Llama``, or of a tokenizer of llamaq."""
        self._tokenizer: Tokenizer = llama if isinstance(llama, Tokenizer) else llama.parts.tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        return self._tokenizer.encode(text, add_special=add_bos, parse_special=special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        text = b"".join(self._tokenizer.token_bytes(token, special=special) for token in tokens)
        # The space that SentencePiece puts before a text is none of it.
        return text.removeprefix(b" ") if tokens and tokens[0] == self._tokenizer.bos_id else text

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos, special)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.detokenize(tokens).decode("utf-8", "ignore")

    @classmethod
    def from_ggml_file(cls, path: str) -> LlamaTokenizer:
        """That of a GGUF file, without its weights."""
        return cls(load_tokenizer(GGUFFile.open(path).metadata))


class LlamaHFTokenizer(BaseLlamaTokenizer):
    """A tokenizer of transformers."""

    def __init__(self, hf_tokenizer: Any) -> None:
        self.hf_tokenizer = hf_tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        return list(self.hf_tokenizer.encode(text.decode("utf-8", "ignore"), add_special_tokens=special))

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        before = list(prev_tokens or [])
        whole = self._decoded([*before, *tokens], special)
        return whole[len(self._decoded(before, special)) :] if before else whole

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> LlamaHFTokenizer:
        """Needs the package transformers."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(pretrained_model_name_or_path))

    def _decoded(self, tokens: list[int], special: bool) -> bytes:
        text: str = self.hf_tokenizer.decode(tokens, skip_special_tokens=not special)
        return text.encode("utf-8", "ignore")
