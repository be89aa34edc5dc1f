"""The metadata ``tokenizer.*`` of a checkpoint's vocabulary, from ``tokenizer.model`` or ``tokenizer.json``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llamaq.convert.bpe import read_bpe
from llamaq.convert.checkpoint import Checkpoint, package
from llamaq.errors import ModelError
from llamaq.tokenizer import TokenType, load_tokenizer

__all__ = ["Tokens", "vocabulary"]

logger = logging.getLogger("llamaq")

_ADDED_SCORE = -1000.0  # what llama.cpp gives tokens that no merge makes
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Prefix of a token's key in tokenizer_config.json and config.json, and that of its GGUF key."""


@dataclass
class Tokens:
    """Texts, types and scores by id (a text of None: no such token), and the other keys of the scheme."""

    texts: list[str | None] = field(default_factory=list)
    types: list[TokenType] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    keys: dict[str, Any] = field(default_factory=dict)

    def put(self, id: int, text: str, type: TokenType, score: float = 0.0) -> None:
        """Sets a token; the ids before it that nobody has set stay free."""
        missing = id + 1 - len(self.texts)
        self.texts += [None] * missing
        self.types += [TokenType.UNUSED] * missing
        self.scores += [_ADDED_SCORE] * missing
        self.texts[id], self.types[id], self.scores[id] = text, type, score


def vocabulary(checkpoint: Checkpoint, rows: int, *, pre: str | None = None) -> dict[str, Any]:
    """The keys, for an embedding table of ``rows`` tokens. Raises ModelError or TokenizerError for an unknown scheme.

    Ids that the table has beyond the vocabulary become unused tokens.
    """
    settings = checkpoint.json("tokenizer_config.json")
    described = checkpoint.json("tokenizer.json")
    if (checkpoint.folder / "tokenizer.model").exists():
        tokens = _sentencepiece(checkpoint)
    elif described:
        tokens = Tokens()
        tokens.keys = read_bpe(described, tokens.put, pre)
    else:
        raise ModelError(f"{checkpoint.folder}: expected tokenizer.model or tokenizer.json, got neither; download it")
    _add_tokens(tokens, _added(checkpoint, settings, described))
    if len(tokens.texts) > rows:
        raise ModelError(
            f"{checkpoint.folder}: the vocabulary has {len(tokens.texts)} tokens, the embedding table {rows} rows; "
            "the folder mixes two models"
        )
    tokens.texts += [None] * (rows - len(tokens.texts))
    keys = {
        **tokens.keys,
        "tokenizer.ggml.tokens": [f"[PAD{i}]" if text is None else text for i, text in enumerate(tokens.texts)],
        "tokenizer.ggml.token_type": np.array([*tokens.types, *[TokenType.UNUSED] * rows][:rows], np.int32),
    }
    if tokens.keys["tokenizer.ggml.model"] == "llama":
        keys["tokenizer.ggml.scores"] = np.array([*tokens.scores, *[_ADDED_SCORE] * rows][:rows], np.float32)
    keys |= _special_ids(checkpoint, settings, tokens) | _additions(settings, described)
    template = _chat_template(checkpoint, settings)
    if template is not None:
        keys["tokenizer.chat_template"] = template
    load_tokenizer(keys)  # refuses what llamaq could not use
    return keys


def _sentencepiece(checkpoint: Checkpoint) -> Tokens:
    """The pieces of tokenizer.model; its scores tell which merge comes first."""
    model = package("sentencepiece").SentencePieceProcessor()
    try:
        model.Load(str(checkpoint.folder / "tokenizer.model"))
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"{checkpoint.folder / 'tokenizer.model'}: cannot be read: {error}; download it again"
        ) from None
    tokens = Tokens(
        keys={
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.add_space_prefix": "".join(model.EncodeAsPieces("a")).startswith("▁"),
        }
    )
    for id in range(model.vocab_size()):
        kind = TokenType.NORMAL
        for holds, type in (
            (model.IsUnknown, TokenType.UNKNOWN),
            (model.IsControl, TokenType.CONTROL),
            (model.IsUnused, TokenType.UNUSED),
            (model.IsByte, TokenType.BYTE),
        ):
            kind = type if holds(id) else kind
        tokens.put(id, model.IdToPiece(id), kind, model.GetScore(id))
    return tokens


def _added(checkpoint: Checkpoint, settings: dict[str, Any], described: dict[str, Any]) -> dict[int, tuple[str, bool]]:
    """Tokens that were added to the scheme's own: text and whether it is a control token, by id."""
    found = {id: (text, False) for text, id in checkpoint.json("added_tokens.json").items()}
    for token in described.get("added_tokens", []):
        found[token["id"]] = token["content"], bool(token.get("special"))
    for id, token in settings.get("added_tokens_decoder", {}).items():
        found[int(id)] = token["content"], bool(token.get("special"))
    return found


def _add_tokens(tokens: Tokens, added: dict[int, tuple[str, bool]]) -> None:
    for id, (text, special) in sorted(added.items()):
        known = tokens.types[id] if id < len(tokens.texts) else None
        if known in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE) and tokens.texts[id] == text:
            continue
        tokens.put(id, text, TokenType.CONTROL if special else TokenType.USER_DEFINED, _ADDED_SCORE)


def _special_ids(checkpoint: Checkpoint, settings: dict[str, Any], tokens: Tokens) -> dict[str, int]:
    """Ids of tokens with a role: named by their text in tokenizer_config.json, else by id in the other files."""
    by_text = {text: id for id, text in reversed(list(enumerate(tokens.texts)))}
    generation = checkpoint.json("generation_config.json")
    keys = {}
    for role, name in _ROLES.items():
        text = settings.get(f"{role}_token")
        text = text.get("content") if isinstance(text, dict) else text
        id = by_text.get(text) if text is not None else None
        for values in (checkpoint.config, generation):
            stated = values.get(f"{role}_token_id")
            stated = stated[0] if isinstance(stated, list) and stated else stated
            id = stated if id is None and isinstance(stated, int) and 0 <= stated < len(tokens.texts) else id
        if id is not None:
            keys[f"tokenizer.ggml.{name}_token_id"] = id
    return keys


def _additions(settings: dict[str, Any], described: dict[str, Any]) -> dict[str, bool]:
    """Whether BOS and EOS are put around a text: as tokenizer_config.json says, else as tokenizer.json does it."""
    keys = {}
    single = _template(described.get("post_processor") or {})
    for role, at in (("bos", 0), ("eos", -1)):
        stated = settings.get(f"add_{role}_token")
        if isinstance(stated, bool):
            keys[f"tokenizer.ggml.add_{role}_token"] = stated
        elif single:
            keys[f"tokenizer.ggml.add_{role}_token"] = "SpecialToken" in single[at]
    return keys


def _template(processor: dict[str, Any]) -> list[dict[str, Any]]:
    """What a single text becomes: special tokens and the text itself, in order; empty where nothing says so."""
    if processor.get("type") == "TemplateProcessing":
        return list(processor.get("single", []))
    return next((found for part in processor.get("processors", []) if (found := _template(part))), [])


def _chat_template(checkpoint: Checkpoint, settings: dict[str, Any]) -> str | None:
    """The default one: in a file of its own (newer folders) or in tokenizer_config.json, alone or in a list."""
    file = checkpoint.folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else None
