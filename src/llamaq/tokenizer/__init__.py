"""Tokenizers built from a GGUF file's metadata alone."""

from __future__ import annotations

from llamaq.errors import TokenizerError, naming

from .base import Tokenizer
from .bpe import ByteLevelTokenizer, CharacterTokenizer
from .decoding import StreamDecoder
from .metadata import Metadata, strings, text
from .pretokenizers import PRETOKENIZERS, pretokenizer
from .special import SpecialTokens
from .spm import SentencePieceTokenizer
from .unigram import UnigramTokenizer
from .vocab import TokenType, Vocab
from .wordpiece import WordPieceTokenizer

__all__ = [
    "PRETOKENIZERS",
    "SpecialTokens",
    "StreamDecoder",
    "TokenType",
    "Tokenizer",
    "Vocab",
    "load_tokenizer",
]

_SCHEMES = ("bert", "gemma4", "gpt2", "llama", "t5")


_UNNAMED = {"gemma4": "gemma4", "glm4moelite": "glm4", "gptoss": "gpt-4o", "lfm2": "lfm2", "mistral3": "tekken"}
"""Pre-tokenizers of architectures whose files ollama's own converter wrote without a name of one."""

_LLAMA_3 = 128009, b"<|eot_id|>"
"""A token that tells Llama 3, whose first files have no name of one either."""


def _rule_of(metadata: Metadata) -> str | None:
    """The name of the pre-tokenizer."""
    named = text(metadata, "tokenizer.ggml.pre")
    if named not in (None, "default"):
        return named
    id, marker = _LLAMA_3
    if (strings(metadata, "tokenizer.ggml.tokens") or [])[id : id + 1] == [marker]:
        return "llama-bpe"
    return _UNNAMED.get(text(metadata, "general.architecture") or "", named)


def load_tokenizer(metadata: Metadata, *, pre: str | None = None) -> Tokenizer:
    """The tokenizer that a file's metadata describes.

    Args:
        metadata: ``GGUFFile.metadata``, or a dict with lists for arrays.
        pre: the pre-tokenizer of a ``gpt2`` vocabulary, in place of the one that the file names.

    Raises:
        TokenizerError: the scheme or the pre-tokenizer is unknown or not named, or the vocabulary is
            inconsistent; the message lists what exists or says what to do.
    """
    model = text(metadata, "tokenizer.ggml.model")
    if pre is not None and model != "gpt2":
        message = f"pre chooses among the rules of 'gpt2' tokenizers, but this one is {model!r}; leave {pre!r} out"
        raise naming(TokenizerError(message), "pre")
    if model == "gpt2":
        rule = pretokenizer(pre or _rule_of(metadata))
        if rule.byte_level:
            return ByteLevelTokenizer(metadata, rule)
        return CharacterTokenizer(metadata, rule)
    if model == "gemma4" or (model == "llama" and _rule_of(metadata) == "gemma4"):  # ollama's converter named it so
        # Some files say that no BOS begins a text. Gemma 4 needs it, and llama.cpp does not believe them either.
        believed = {key: value for key, value in metadata.items() if key != "tokenizer.ggml.add_bos_token"}
        return CharacterTokenizer(believed, PRETOKENIZERS["gemma4"])
    if model == "llama":
        return SentencePieceTokenizer(metadata)
    if model == "bert":
        return WordPieceTokenizer(metadata)
    if model == "t5":
        return UnigramTokenizer(metadata)
    if model in (None, "none", "no_vocab"):
        raise TokenizerError("the file has no tokenizer (tokenizer.ggml.model); use a file with a vocabulary")
    raise TokenizerError(f"unknown tokenizer {model!r} (tokenizer.ggml.model); llamaq has {', '.join(_SCHEMES)}")
