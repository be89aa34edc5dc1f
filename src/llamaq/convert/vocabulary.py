"""The metadata ``tokenizer.*`` of a checkpoint's vocabulary, from ``tokenizer.model`` or ``tokenizer.json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from llamaq.convert.added import put_added, read_added, warn_of_added
from llamaq.convert.bpe import read_bpe
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.roles import additions, end_tokens, special_ids
from llamaq.convert.section import Section
from llamaq.convert.sentencepiece_model import BPE, UNIGRAM, SentencePieceModel, read_sentencepiece
from llamaq.convert.templates import chat_templates
from llamaq.convert.tokens import Tokens
from llamaq.convert.unigram import read_unigram
from llamaq.convert.wordpiece import read_wordpiece
from llamaq.errors import ModelError, TokenizerError
from llamaq.tokenizer import PRETOKENIZERS, TokenType, load_tokenizer

__all__ = ["vocabulary"]

logger = logging.getLogger("llamaq")


def vocabulary(
    checkpoint: Checkpoint, rows: int, *, pre: str | None = None, general: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The keys, for an embedding table of ``rows`` tokens. Raises ModelError or TokenizerError for an unknown scheme.

    Ids that the table has beyond the vocabulary become unused tokens. What GGUF cannot say is refused where it
    changes most texts, and else warned of by name. ``general``: the file's other keys, as readers know the habits of
    some models by their names.
    """
    settings = checkpoint.json("tokenizer_config.json")
    described = checkpoint.json("tokenizer.json")
    generation = checkpoint.json("generation_config.json")
    model = read_sentencepiece(checkpoint.folder / "tokenizer.model", rows)
    tokens = Tokens(rows)
    if model is not None:
        _put_pieces(tokens, model, settings)
    elif described:
        _READERS.get(described.section("model").text("type", "BPE"), read_bpe)(described, settings, tokens, pre)
    else:
        got = "one of tiktoken" if (checkpoint.folder / "tokenizer.model").exists() else "neither"
        raise ModelError(
            f"{checkpoint.folder}: expected tokenizer.json, or SentencePiece's tokenizer.model, got {got}; download it"
        )
    added = read_added(described, settings, checkpoint.json("added_tokens.json"))
    put_added(tokens, added)
    keys = tokens.keys | tokens.columns()
    encoder = keys["tokenizer.ggml.model"] in ("bert", "t5")
    keys |= special_ids(settings, checkpoint.config, generation, tokens, encoder=encoder)
    if encoder:
        keys["tokenizer.ggml.token_type_count"] = checkpoint.config.integer("type_vocab_size", 1, low=0)
    unigram = keys["tokenizer.ggml.model"] == "t5"
    if unigram and TokenType.UNKNOWN in tokens.types:  # readers assume T5's ids where a file says none
        keys.setdefault("tokenizer.ggml.unknown_token_id", tokens.types.index(TokenType.UNKNOWN))
    keys |= end_tokens(checkpoint.config, generation, keys)
    if keys["tokenizer.ggml.model"] != "bert":  # BERT has them always
        keys |= additions(settings, described, usual=unigram)
    rule = PRETOKENIZERS.get(keys["tokenizer.ggml.pre"])
    if rule is not None and rule.add_bos:  # readers would take it from the rule, but nothing says it here
        keys.setdefault("tokenizer.ggml.add_bos_token", False)
    keys |= chat_templates(checkpoint, settings)
    warn_of_added(load_tokenizer({**(general or {}), **keys}), added)  # loading refuses what llamaq could not use
    return keys


_READERS = {
    "WordPiece": lambda described, settings, tokens, pre: read_wordpiece(described, tokens),
    "Unigram": lambda described, settings, tokens, pre: read_unigram(described, tokens),
}
"""Readers by the type of tokenizer.json's model; all others are BPE or refused by its reader."""


def _put_pieces(tokens: Tokens, model: SentencePieceModel, settings: Section) -> None:
    """The pieces of tokenizer.model; its scores tell which merge comes first, or how likely a piece is."""
    for odd, what in (
        (model.type not in (UNIGRAM, BPE), f"model_type {model.type}, neither unigram nor BPE"),
        (model.whitespace_as_suffix, "treat_whitespace_as_suffix"),
        (not model.escape_whitespaces, "escape_whitespaces: false"),
    ):
        if odd:
            raise TokenizerError(f"tokenizer.model: it has {what}, which GGUF cannot say; use its own library")
    for id, (text, score, kind) in enumerate(model.pieces):
        tokens.put(id, text, kind, score)
    tokens.keys = {
        "tokenizer.ggml.model": "t5" if model.type == UNIGRAM else "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": settings.flag("add_prefix_space", model.add_dummy_prefix),
    }
    if model.type == UNIGRAM:
        tokens.keys["tokenizer.ggml.remove_extra_whitespaces"] = model.remove_extra_whitespaces
        if model.charsmap:
            tokens.keys["tokenizer.ggml.precompiled_charsmap"] = np.frombuffer(model.charsmap, np.uint8)
        return
    if model.charsmap:
        logger.warning(
            "tokenizer.model: the normalizer %s is left out, as GGUF's llama has none: texts that it changes become "
            "other tokens",
            model.normalizer or "without a name",
        )
    if model.remove_extra_whitespaces:
        logger.warning(
            "tokenizer.model: remove_extra_whitespaces is left out, as GGUF's llama has no such key: "
            "runs of spaces become tokens"
        )
