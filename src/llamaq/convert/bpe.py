"""Byte-pair encoding as tokenizer.json describes it: over bytes (GPT-2, Llama 3), or over characters (Llama 2)."""

from __future__ import annotations

import logging
from typing import Any

from llamaq.convert.section import Section, is_text, shown
from llamaq.convert.steps import add_space_prefix, check_normalizers, rule_name, steps
from llamaq.convert.tokens import Tokens, expect_rows
from llamaq.errors import ModelError, TokenizerError
from llamaq.tokenizer import TokenType

__all__ = ["read_bpe"]

logger = logging.getLogger("llamaq")


def read_bpe(described: Section, settings: Section, tokens: Tokens, pre: str | None = None) -> None:
    """Reads tokenizer.json into ``tokens``; ``settings`` is tokenizer_config.json.

    Raises TokenizerError for a scheme that is unknown or that GGUF cannot say, ModelError for a damaged file.
    """
    model = described.section("model")
    kind = model.text("type", "BPE")
    if kind != "BPE" or "merges" not in model or "vocab" not in model:
        raise TokenizerError(
            f"tokenizer.json: model: expected BPE with a vocabulary and merges, got {kind!r}; "
            "llamaq converts BPE and tokenizer.model"
        )
    vocab, merges = model.get("vocab", dict) or {}, _merges(model)
    expect_rows(len(vocab), len(tokens.texts))
    parts = steps(described, "pre_tokenizer")
    normalizers = steps(described, "normalizer")
    if any(part.text("type") == "ByteLevel" for part in (*parts, *steps(described, "decoder"))):
        check_normalizers(normalizers, spaces=False)
        _warn_of_prefix(parts, settings)
        for text, id in vocab.items():
            tokens.put(id, text, TokenType.NORMAL)
        tokens.keys = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre or rule_name(parts, model.flag("ignore_merges")),
            "tokenizer.ggml.merges": [" ".join(half.replace(" ", "Ġ") for half in pair) for pair in merges],
        }
        return
    if not model.flag("byte_fallback"):
        raise TokenizerError("tokenizer.json: expected BPE over bytes, or with byte_fallback, got neither")
    check_normalizers(normalizers, spaces=True)
    _put_characters(tokens, vocab, merges, model.get("unk_token", str))
    tokens.keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": settings.flag("add_prefix_space", add_space_prefix(normalizers, parts)),
    }


def _put_characters(tokens: Tokens, vocab: dict[str, Any], merges: list[tuple[str, str]], unknown: str | None) -> None:
    """Tokens over characters; the first merge that makes a token says when its turn comes."""
    scores: dict[str, float] = {}
    for left, right in merges:
        scores.setdefault(left + right, -1.0 - len(scores))
    for text, id in vocab.items():
        kind = TokenType.BYTE if len(text) == 6 and text.startswith("<0x") else TokenType.NORMAL
        kind = TokenType.UNKNOWN if text == unknown else kind
        tokens.put(id, text, kind, scores.get(text, 0.0))


def _merges(model: Section) -> list[tuple[str, str]]:
    """Pairs, each of which the file spells as one text with a space, or as a list."""
    found = []
    for i, merge in enumerate(model.get("merges", list) or ()):
        halves = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(halves, list) or len(halves) != 2 or not all(map(is_text, halves)):
            raise ModelError(f"tokenizer.json: model.merges[{i}]: expected a pair of texts, got {shown(merge)}")
        found.append((halves[0], halves[1]))
    return found


def _warn_of_prefix(parts: list[Section], settings: Section) -> None:
    """llama.cpp puts no space before texts of this scheme, whatever a file says."""
    prefixed = any(part.text("type") == "ByteLevel" and part.flag("add_prefix_space") for part in parts)
    if settings.flag("add_prefix_space", prefixed):
        logger.warning(
            "tokenizer.json: add_prefix_space is left out, as GGUF's gpt2 cannot say it: "
            "a text that begins without a space begins with another token"
        )
