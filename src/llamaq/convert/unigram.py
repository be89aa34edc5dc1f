"""Unigram as tokenizer.json describes it (XLM-RoBERTa, E5): SentencePiece's pieces with their log-probabilities."""

from __future__ import annotations

import base64
import binascii
import logging

import numpy as np

from llamaq.convert.section import Section, shown
from llamaq.convert.steps import steps
from llamaq.convert.tokens import Tokens, expect_rows
from llamaq.errors import ModelError, TokenizerError
from llamaq.tokenizer import TokenType

__all__ = ["read_unigram"]

logger = logging.getLogger("llamaq")


def read_unigram(described: Section, tokens: Tokens) -> None:
    """Reads tokenizer.json into ``tokens``. Raises TokenizerError for steps that GGUF cannot say, ModelError for
    damage."""
    model = described.section("model")
    vocab = model.get("vocab", list) or []
    expect_rows(len(vocab), len(tokens.texts))
    unknown = model.integer("unk_id", 0, low=0)
    for id, entry in enumerate(vocab):
        if not isinstance(entry, list) or len(entry) != 2 or not _is_score(entry[1]):
            raise ModelError(f"tokenizer.json: model.vocab[{id}]: expected a text and a number, got {shown(entry)}")
        tokens.put(id, entry[0], TokenType.UNKNOWN if id == unknown else TokenType.NORMAL, float(entry[1]))
    marks = [step for step in steps(described, "pre_tokenizer") if step.text("type") == "Metaspace"]
    if not marks:
        raise TokenizerError("tokenizer.json: pre_tokenizer: expected one that spells spaces ▁, got none")
    prefix = marks[0].text("prepend_scheme", "always") != "never" and marks[0].flag("add_prefix_space", True)
    tokens.keys = {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": prefix,
    }
    normalizer = steps(described, "normalizer")
    merged = any(step.section("pattern").values == {"Regex": " {2,}"} for step in normalizer)
    tokens.keys["tokenizer.ggml.remove_extra_whitespaces"] = merged
    for step in normalizer:
        kind = step.text("type")
        if kind == "Precompiled":
            tokens.keys["tokenizer.ggml.precompiled_charsmap"] = _charsmap(step)
        elif kind not in ("Replace", "Strip", "Nmt", "NFKC"):  # the first two take away spaces, as GGUF's t5 does
            raise TokenizerError(f"tokenizer.json: normalizer: GGUF's t5 cannot say {kind!r}")


def _charsmap(step: Section) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    text = step.text("precompiled_charsmap")
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError) as error:
        raise ModelError(f"tokenizer.json: normalizer.precompiled_charsmap: expected base64: {error}") from None


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3e38
