"""What the tokenizer tests share: the recorded vocabularies, and small ones made by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

from llamaq.gguf import GGUFFile
from llamaq.tokenizer import Tokenizer, load_tokenizer
from shared_files import shared_path

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

RECORDED = (
    *("bert-bge", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "mpt"),
    *("nomic-bert-moe", "phi-3", "qwen2", "starcoder"),
)


@cache
def recorded(name: str) -> Tokenizer:
    """The tokenizer of one of the recorded vocabularies."""
    with GGUFFile.open(shared_path(f"vocab/ggml-vocab-{name}.gguf")) as file:
        return load_tokenizer(file.metadata)


def metadata(model: str, tokens: list[tuple[str, float, int]], **keys: Any) -> dict[str, Any]:
    """Metadata of a vocabulary of (text, score, type); ``keys`` belong under ``tokenizer.ggml.``."""
    return {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": [text for text, _, _ in tokens],
        "tokenizer.ggml.scores": [score for _, score, _ in tokens],
        "tokenizer.ggml.token_type": [kind for _, _, kind in tokens],
        **{f"tokenizer.ggml.{key}": value for key, value in keys.items()},
    }


def spm(*words: tuple[str, float, int], **keys: Any) -> dict[str, Any]:
    """A SentencePiece vocabulary: <unk>, <s>, </s>, 256 bytes, then ``words``."""
    head = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    return metadata("llama", [*head, *((f"<0x{i:02X}>", 0.0, BYTE) for i in range(256)), *words], **keys)
