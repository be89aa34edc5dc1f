"""How far a text has come in its structure."""

from __future__ import annotations

from typing import Any

import numpy as np

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
        self._before = _Before(structure.after, tokenizer) if structure.after else None
        self._kind = structure.kind
        self.end = vocabulary.end
        """The token that ends the text."""

    @property
    def finished(self) -> bool:
        """Whether nothing but an end token can follow."""
        if self._before is not None:
            return False
        stopped: bool = self._checked(self._matcher.is_stopped())
        return stopped

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        if self._before is not None:
            return self._before.allows(token)
        if self.finished:
            return token in self._ends
        count: int = self._checked(self._matcher.validate_tokens([token]))
        return count == 1

    def mask(self) -> bytes:
        """All tokens that may come next: a bit for each, the lowest of a byte first."""
        if self._before is not None:
            return self._before.mask()
        bits = bytearray(self._checked(self._matcher.compute_bitmask()))
        if not self._matcher.is_accepting():  # "any token but one" means no end token either
            for end in self._ends:
                bits[end // 8] &= ~(1 << end % 8)
        return bytes(bits)

    def accept(self, token: int) -> None:
        """Goes on by a token that is allowed."""
        if self._before is not None:
            self._before.accept(token)
            if self._before.over:
                self._before = None
            return
        if self.finished and token in self._ends:
            return
        self._checked(self._matcher.consume_token(token))

    def forced(self) -> list[int]:
        """Tokens that must come next, in the tokenizer's own cut; the end token where all is said."""
        if self._before is not None:
            return []
        if self.finished:
            return [self.end]
        ids: list[int] = self._checked(self._matcher.compute_ff_tokens())
        return ids

    def _checked(self, result: Any) -> Any:
        if self._matcher.is_error():
            raise StructureError(f"{self._kind}: {cleaned(self._matcher.get_error())}")
        return result


class _Before:
    """Free text up to a mark, which a token may end with or with white space after it: what else followed in the same
    token would be no part of the structure. No end token may come before the mark."""

    def __init__(self, mark: str, tokenizer: Tokenizer) -> None:
        self._mark = mark.encode()
        self._tokenizer = tokenizer
        self._id = tokenizer.token_to_id(mark)
        self._tail = b""
        self._overshooting: list[int] | None = None
        self.over = False
        """Whether the mark has come."""

    def allows(self, token: int) -> bool:
        _, found, rest = (self._tail + self._bytes(token)).partition(self._mark)
        return token not in self._tokenizer.eog_ids and not (found and rest.strip())

    def mask(self) -> bytes:
        bits = np.ones(self._tokenizer.n_vocab, bool)
        bits[list(self._tokenizer.eog_ids)] = False
        if self._overshooting is None:  # tokens that can have something after the mark
            end = self._mark[-1:]
            pieces = map(self._bytes, range(len(bits)))
            self._overshooting = [id for id, piece in enumerate(pieces) if piece.partition(end)[2].strip()]
        for id in self._overshooting:
            bits[id] &= self.allows(id)
        return np.packbits(bits, bitorder="little").tobytes()

    def accept(self, token: int) -> None:
        text = self._tail + self._bytes(token)
        self.over = self._mark in text
        self._tail = text[max(0, len(text) - len(self._mark) + 1) :]

    def _bytes(self, token: int) -> bytes:
        """What a token adds to the text that is searched: of control tokens the mark alone."""
        return self._mark if token == self._id else self._tokenizer.token_bytes(token)
