"""Tokens that were added to the scheme's own: where a folder says them, and what of them GGUF cannot say."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from llamaq.convert.section import Section
from llamaq.convert.tokens import ADDED_SCORE, Tokens
from llamaq.errors import ModelError
from llamaq.tokenizer import Tokenizer, TokenType

__all__ = ["AddedToken", "put_added", "read_added", "warn_of_added"]

logger = logging.getLogger("llamaq")

_HABITS = ("lstrip", "rstrip", "single_word")
_SHOWN = 5  # names in one warning


@dataclass(frozen=True)
class AddedToken:
    """``special``: a control token. ``habits``: how it is found in a text, of `_HABITS`."""

    text: str
    special: bool = False
    habits: frozenset[str] = frozenset()


def read_added(described: Section, settings: Section, listed: Section) -> dict[int, AddedToken]:
    """The tokens by id, from tokenizer.json, tokenizer_config.json and added_tokens.json.

    Raises ModelError for ids and texts that are none.
    """
    found = {listed.integer(text, low=0): AddedToken(text) for text in listed.values}
    for token in described.sections("added_tokens"):
        found[token.integer("id", low=0)] = _token(token)
    for id, token in settings.numbered("added_tokens_decoder"):
        if not (id.isascii() and id.isdecimal() and len(id) <= 10):
            raise ModelError(f"tokenizer_config.json: added_tokens_decoder: expected ids as keys, got {id[:40]!r}")
        found[int(id)] = _token(token)
    return found


def _token(token: Section) -> AddedToken:
    text = token.get("content", str)
    if text is None:
        raise token.error("content", "a text")
    return AddedToken(text, token.flag("special"), frozenset(habit for habit in _HABITS if token.flag(habit)))


def put_added(tokens: Tokens, added: dict[int, AddedToken]) -> None:
    """Adds the tokens; those beyond the embedding table are left out with a warning."""
    rows = len(tokens.texts)
    for id, token in sorted(added.items()):
        known = tokens.types[id] if id < rows else None
        if known in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE) and tokens.texts[id] == token.text:
            continue
        if known is not None:
            tokens.put(id, token.text, TokenType.CONTROL if token.special else TokenType.USER_DEFINED, ADDED_SCORE)
    beyond = [f"{id} {token.text!r}" for id, token in sorted(added.items()) if id >= rows]
    if beyond:
        logger.warning("tokens beyond the %d rows of the embedding table are left out: %s", rows, _listed(beyond))


def warn_of_added(tokenizer: Tokenizer, added: dict[int, AddedToken]) -> None:
    """Warns of habits of added tokens that the written ``tokenizer`` does not have."""
    lost: dict[str, list[str]] = {}
    for id, token in sorted(added.items()):
        for habit in sorted(token.habits) if id < tokenizer.n_vocab else ():
            if not _has(tokenizer, id, token.text, habit):
                lost.setdefault(habit, []).append(repr(token.text))
    for habit, texts in lost.items():
        logger.warning("%s of added tokens is left out, as GGUF cannot say it: %s", habit, _listed(texts))


def _has(tokenizer: Tokenizer, id: int, text: str, habit: str) -> bool:
    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special=False, parse_special=True)

    if habit == "single_word":
        return id not in ids(f"a{text}a")
    spaced, plain = (f"a {text}", f"a{text}") if habit == "lstrip" else (f"{text} a", f"{text}a")
    return ids(spaced) == ids(plain)


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
