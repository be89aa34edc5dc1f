"""How far a text has come in its structure."""

from __future__ import annotations

from collections.abc import Sequence
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

    def foreseen(self) -> list[int]:
        """What ``forced`` will give, as a guess: asking changes nothing, and where it exceeds a limit there is none."""
        if self._before is not None or self.finished:
            return []
        copy = self._matcher.deep_copy()
        ids: list[int] = copy.compute_ff_tokens()
        return [] if copy.is_error() else ids

    def _checked(self, result: Any) -> Any:
        if self._matcher.is_error():
            message = cleaned(self._matcher.get_error())
            if message == "NoExtensionBias":
                message = "no token of the model's vocabulary can come next; loosen it, or choose another model"
            raise StructureError(f"{self._kind}: {message}")
        return result


class _Before:
    """Free text up to a mark, or several one after another. A token may end with the last one, or with white space
    after it: what else followed in the same token would be no part of the structure. No end token may come before."""

    def __init__(self, marks: Sequence[str], tokenizer: Tokenizer) -> None:
        self._marks = [mark.encode() for mark in marks]
        self._tokenizer = tokenizer
        self._whole = {tokenizer.token_to_id(mark): mark.encode() for mark in marks}
        self._tail = b""
        self._overshooting: list[int] | None = None

    @property
    def over(self) -> bool:
        """Whether all marks have come."""
        return not self._marks

    def allows(self, token: int) -> bool:
        marks, rest = self._after(token)
        return token not in self._tokenizer.eog_ids and bool(marks or not rest.strip())

    def mask(self) -> bytes:
        bits = np.ones(self._tokenizer.n_vocab, bool)
        bits[list(self._tokenizer.eog_ids)] = False
        if self._overshooting is None:  # tokens that can have something after the last mark
            end = self._marks[-1][-1:]
            pieces = map(self._bytes, range(len(bits)))
            self._overshooting = [id for id, piece in enumerate(pieces) if piece.partition(end)[2].strip()]
        for id in self._overshooting:
            bits[id] &= self.allows(id)
        return np.packbits(bits, bitorder="little").tobytes()

    def accept(self, token: int) -> None:
        self._marks, rest = self._after(token)
        self._tail = rest[max(0, len(rest) - len(self._marks[0]) + 1) :] if self._marks else b""

    def _after(self, token: int) -> tuple[list[bytes], bytes]:
        """The marks that are to come after a token, and the text after those that have come."""
        marks, text = self._marks, self._tail + self._bytes(token)
        while marks and marks[0] in text:
            text = text.partition(marks[0])[2]
            marks = marks[1:]
        return marks, text

    def _bytes(self, token: int) -> bytes:
        """What a token adds to the text that is searched: of control tokens the marks alone."""
        return self._whole.get(token) or self._tokenizer.token_bytes(token)
