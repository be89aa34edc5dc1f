"""WordPiece as tokenizer.json describes it (BERT): GGUF marks the beginning of a word, the source what follows it."""

from __future__ import annotations

import logging

from llamaq.convert.section import Section
from llamaq.convert.steps import steps
from llamaq.convert.tokens import Tokens, expect_rows
from llamaq.errors import TokenizerError
from llamaq.tokenizer import TokenType
from llamaq.tokenizer.merging import SPACE

__all__ = ["read_wordpiece"]

logger = logging.getLogger("llamaq")


def read_wordpiece(described: Section, tokens: Tokens) -> None:
    """Reads tokenizer.json into ``tokens``. Raises TokenizerError for rules that GGUF cannot say."""
    model = described.section("model")
    vocab, further = model.get("vocab", dict) or {}, model.text("continuing_subword_prefix", "##")
    expect_rows(len(vocab), len(tokens.texts))
    normalizers = [step for step in steps(described, "normalizer") if step.text("type") == "BertNormalizer"]
    cuts = {step.text("type") for step in steps(described, "pre_tokenizer")}
    if len(normalizers) != 1 or cuts != {"BertPreTokenizer"}:
        raise TokenizerError(
            "tokenizer.json: expected WordPiece with BERT's normalizer and pre_tokenizer, got others; "
            "use the model with its own library"
        )
    lower = normalizers[0].flag("lowercase", True)
    if not normalizers[0].flag("handle_chinese_chars", True):
        logger.warning("tokenizer.json: handle_chinese_chars: GGUF's bert cannot say false: ideographs are words")
    special = {token.text("content") for token in described.sections("added_tokens")}
    unknown = model.text("unk_token", "[UNK]")
    for text, id in vocab.items():
        begins = text in special or text == unknown
        spelled = text if begins else text.removeprefix(further) if text.startswith(further) else SPACE + text
        tokens.put(id, spelled, TokenType.CONTROL if begins else TokenType.NORMAL)
    tokens.keys = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.normalizer.lowercase": lower,
        "tokenizer.ggml.normalizer.strip_accents": normalizers[0].flag("strip_accents", lower),
    }
