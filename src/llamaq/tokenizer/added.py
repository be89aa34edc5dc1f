"""Tokens that are cut out of a text before the scheme sees it: control tokens and user-defined ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from .metadata import Metadata, text
from .vocab import TokenType, Vocab

__all__ = ["AddedTokens"]

_SPACE = " \t\n\v\f\r"  # a token with lstrip or rstrip swallows these beside it


class AddedTokens:
    """Splits a text at the tokens that stand for themselves.

    User-defined tokens are found always; control and unknown tokens only where the caller asks for it, so
    that a user's text cannot forge a turn. The leftmost match counts, and of those the longest.
    """

    def __init__(self, metadata: Metadata, vocab: Vocab) -> None:
        self._vocab = vocab
        self._lstrip, self._rstrip = _strip_rules(metadata, vocab)

    def split(self, text: str, parse_special: bool) -> Iterator[str | int]:
        """Yields the pieces of text (never empty) and the token ids between them."""
        position = 0
        for start, end, id in (self._all if parse_special else self._user_defined).matches(text):
            before = text[position:start]
            before = before.rstrip(_SPACE) if id in self._lstrip else before
            if before:
                yield before
            yield id
            position = end
            while id in self._rstrip and position < len(text) and text[position] in _SPACE:
                position += 1
        if position < len(text):
            yield text[position:]

    @cached_property
    def _user_defined(self) -> _Matcher:
        return _Matcher(self._vocab, self._vocab.of_type(TokenType.USER_DEFINED))

    @cached_property
    def _all(self) -> _Matcher:
        types = (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN)
        return _Matcher(self._vocab, self._vocab.of_type(*types))


class _Matcher:
    """Finds the longest of many words at each place: by two leading characters, then by length."""

    def __init__(self, vocab: Vocab, ids: list[int]) -> None:
        self._ids = {vocab.text(id): id for id in reversed(ids) if vocab.tokens[id]}
        singles = {word for word in self._ids if len(word) == 1}
        lengths: dict[str, set[int]] = {}
        for word in self._ids:
            lengths.setdefault(word[:2], {1} if word[0] in singles else set()).add(len(word))
        self._lengths = {head: sorted(found, reverse=True) for head, found in lengths.items()}
        heads = sorted(lengths, key=len, reverse=True)
        self._head = re.compile("|".join(map(re.escape, heads))) if heads else None

    def matches(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yields (start, end, id), from left to right, without overlaps."""
        head = self._head.search(text) if self._head else None
        while self._head and head:
            start = head.start()
            end = start + 1
            for length in self._lengths[head.group()]:
                id = self._ids.get(text[start : start + length])
                if id is not None:
                    end = min(start + length, len(text))
                    yield start, end, id
                    break
            head = self._head.search(text, end)


def _strip_rules(metadata: Metadata, vocab: Vocab) -> tuple[set[int], set[int]]:
    """The ids that swallow spaces to their left and right. No key says so: llama.cpp knows these models."""
    pre = text(metadata, "tokenizer.ggml.pre") or ""
    name = (text(metadata, "general.name") or "").lower()
    architecture = text(metadata, "general.architecture") or ""
    mask = None
    if "jina-v2-" in pre or architecture in ("nomic-bert-moe", "jina-bert-v3"):
        mask = vocab.ids.get(b"<mask>")
    elif "phi-3" in name or "phi3" in name:
        rstrip = vocab.of_type(TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN)
        keeps = {vocab.ids.get(word) for word in (b"<unk>", b"<s>", b"<|endoftext|>")}
        return set(), set(rstrip) - keeps
    elif "modern-bert" in name:
        mask = vocab.ids.get(b"[MASK]")
    return ({mask} if mask is not None else set()), set()
