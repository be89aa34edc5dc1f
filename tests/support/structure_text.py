"""Texts against structures, token by token."""

from __future__ import annotations

from collections.abc import Sequence

from llamaq.structure import Matcher, Structure
from llamaq.tokenizer import Tokenizer

__all__ = ["accepts", "accepts_tokens"]


def accepts(structure: Structure, text: str, tokenizer: Tokenizer) -> bool:
    """Whether the whole text matches."""
    return accepts_tokens(structure, tokenizer.encode(text, add_special=False, continuation=True), tokenizer)


def accepts_tokens(structure: Structure, ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    """The same for tokens. The mask and the check of one token must agree about each, but where the next tokens are
    forced the mask has these alone."""
    matcher = Matcher(structure, tokenizer)
    for id in [*ids, matcher.end]:
        bits = matcher.mask()
        allowed = matcher.allows(id)
        assert allowed == bool(bits[id // 8] >> id % 8 & 1) or (allowed and matcher.forced())
        if not allowed:
            return False
        matcher.accept(id)
    return True
