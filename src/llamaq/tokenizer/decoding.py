"""How ids become text again, one at a time: what a token adds, and characters that span several tokens."""

from __future__ import annotations

import codecs
from collections.abc import Callable

__all__ = ["PieceReader", "StreamDecoder"]


class PieceReader:
    """Gives each token's bytes in turn, without the space that encoding put before the text.

    ``piece(id)`` is what a token adds to a text, and ``opens(id)`` whether it is text, not a control token.
    """

    def __init__(self, piece: Callable[[int], bytes], opens: Callable[[int], bool], drop_space: bool) -> None:
        self._piece = piece
        self._opens = opens
        self._drop_space = drop_space

    def read(self, id: int) -> bytes:
        """The bytes that the next token adds; TokenizerError for an id outside the vocabulary."""
        piece = self._piece(id)
        if self._drop_space and self._opens(id):
            self._drop_space = False
            return piece.removeprefix(b" ")
        return piece


class StreamDecoder:
    """Decodes ids as they come; the pushes and the flush joined equal ``decode`` of all the ids.

    A character is given out when its last byte has come, so no push ever shows part of one. Bytes that can
    no longer become a character show as U+FFFD.
    """

    def __init__(self, reader: PieceReader) -> None:
        self._reader = reader
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is complete with this token; TokenizerError for an id outside the vocabulary."""
        return self._utf8.decode(self._reader.read(id))

    @property
    def pending(self) -> str:
        """What ``flush`` would give now."""
        return self._utf8.getstate()[0].decode("utf-8", "replace")

    def flush(self) -> str:
        """Ends the stream: U+FFFD where a character stayed incomplete, else the empty string."""
        return self._utf8.decode(b"", final=True)
