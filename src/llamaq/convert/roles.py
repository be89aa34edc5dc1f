"""Tokens with a role: which begin and end a text, which end an answer, and which are put around a text."""

from __future__ import annotations

import logging
from typing import Any

from llamaq.convert.section import Section
from llamaq.convert.tokens import Tokens
from llamaq.tokenizer import load_tokenizer

__all__ = ["additions", "end_tokens", "special_ids"]

logger = logging.getLogger("llamaq")

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Prefix of a token's key in tokenizer_config.json and config.json, and that of its GGUF key."""
_ENCODER_ROLES = {"cls": "cls", "sep": "seperator", "mask": "mask"}  # GGUF's spelling
_END_KEYS = ("eot", "eom")  # keys of end tokens beside the first


def special_ids(
    settings: Section, config: Section, generation: Section, tokens: Tokens, *, encoder: bool = False
) -> dict[str, int]:
    """The keys ``*_token_id``: by the token's text in ``settings`` (tokenizer_config.json), else by id elsewhere.

    ``encoder``: those of a class, a separator and a mask, too.
    """
    by_text = tokens.ids()
    keys = {}
    for role, name in (_ROLES | (_ENCODER_ROLES if encoder else {})).items():
        stated = [id for values in (config, generation) for id in values.integers(f"{role}_token_id")[:1]]
        text = _role_text(settings, role)
        named = by_text.get(text) if text else None
        id = named if named is not None else next((id for id in stated if 0 <= id < len(tokens.texts)), None)
        if id is not None:
            keys[f"tokenizer.ggml.{name}_token_id"] = id
    return keys


def _role_text(settings: Section, role: str) -> str:
    key = f"{role}_token"
    return settings.section(key).text("content") if isinstance(settings.values.get(key), dict) else settings.text(key)


def end_tokens(config: Section, generation: Section, keys: dict[str, Any]) -> dict[str, int]:
    """The keys for the tokens that end an answer beside those that a reader of ``keys`` knows already.

    The configurations may list any number; a file can name two more. Warns of those that are left over.
    """
    rows = len(keys["tokenizer.ggml.tokens"])
    stated = [id for values in (config, generation) for id in values.integers("eos_token_id") if 0 <= id < rows]
    found: dict[str, int] = {}
    tokenizer = load_tokenizer(keys)
    # A role that the token's text gives may go to another: readers know such tokens by their texts still.
    free = sorted(_END_KEYS, key=lambda role: getattr(tokenizer.special, role) is not None)
    for id in dict.fromkeys(stated):
        if id in tokenizer.eog_ids:
            continue
        if free:
            found[f"tokenizer.ggml.{free.pop(0)}_token_id"] = id
        else:
            text = tokenizer.token_text(id)
            logger.warning("eos_token_id: a GGUF file can name no more end tokens; left out is %d %r", id, text)
    return found


def additions(settings: Section, described: Section, *, usual: bool | None = None) -> dict[str, bool]:
    """Whether BOS and EOS are put around a text: as tokenizer_config.json says, else as tokenizer.json does it.

    ``usual``: where neither says, write that BOS is (as a Llama has it) and EOS is not.
    """
    keys = {}
    single = _template(described.section("post_processor"))
    for role, at in (("bos", 0), ("eos", -1)):
        key = f"add_{role}_token"
        if key in settings:
            keys[f"tokenizer.ggml.{key}"] = settings.flag(key)
        elif single:
            keys[f"tokenizer.ggml.{key}"] = "SpecialToken" in single[at]
        elif usual:
            keys[f"tokenizer.ggml.{key}"] = role == "bos"
    return keys


def _template(processor: Section) -> list[Section]:
    """What a single text becomes: special tokens and the text itself, in order; empty where nothing says so."""
    if processor.text("type") == "TemplateProcessing":
        return processor.sections("single")
    return next((found for part in processor.sections("processors") if (found := _template(part))), [])
