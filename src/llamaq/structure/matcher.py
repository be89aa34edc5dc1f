"""How far a text has come in its structure."""

from __future__ import annotations

from typing import Any

from llamaq.errors import StructureError
from llamaq.tokenizer import Tokenizer

from .engine import cleaned
from .kinds import Structure
from .vocabulary import vocabulary_of

__all__ = ["Matcher"]


class Matcher:
    """Follows one text, token by token. Raises ``StructureError`` where the structure does not fit the vocabulary, and
    where following it exceeds a limit: the output is never left unconstrained."""

    def __init__(self, structure: Structure, tokenizer: Tokenizer) -> None:
        vocabulary = vocabulary_of(tokenizer)
        self._matcher: Any = vocabulary.matcher(structure)
        self._ends = tokenizer.eog_ids
        self._kind = structure.kind
        self.end = vocabulary.end
        """The token that ends the text."""

    @property
    def finished(self) -> bool:
        """Whether nothing but an end token can follow."""
        stopped: bool = self._checked(self._matcher.is_stopped())
        return stopped

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        if self.finished:
            return token in self._ends
        count: int = self._checked(self._matcher.validate_tokens([token]))
        return count == 1

    def mask(self) -> bytes:
        """All tokens that may come next: a bit for each, the lowest of a byte first."""
        bits = bytearray(self._checked(self._matcher.compute_bitmask()))
        if not self._matcher.is_accepting():  # "any token but one" means no end token either
            for end in self._ends:
                bits[end // 8] &= ~(1 << end % 8)
        return bytes(bits)

    def accept(self, token: int) -> None:
        """Goes on by a token that is allowed."""
        if self.finished and token in self._ends:
            return
        self._checked(self._matcher.consume_token(token))

    def forced(self) -> list[int]:
        """Tokens that must come next, in the tokenizer's own cut; the end token where all is said."""
        if self.finished:
            return [self.end]
        ids: list[int] = self._checked(self._matcher.compute_ff_tokens())
        return ids

    def _checked(self, result: Any) -> Any:
        if self._matcher.is_error():
            raise StructureError(f"{self._kind}: {cleaned(self._matcher.get_error())}")
        return result
