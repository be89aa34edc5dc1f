"""The model's last states of a text's latest tokens, for a block that guesses further tokens (``engine.nextn``)."""

from __future__ import annotations

import numpy as np

from llamaq.serving.request import F32, Capture

__all__ = ["KEPT_STATES", "LastStates"]

KEPT_STATES = 256
"""Tokens, at most, whose states wait to be read: a block that begins behind a long prompt sees so much of it."""


class LastStates:
    """Those of tokens number ``start`` to before ``end`` of one text, as ``capture`` has them; ``most`` at a time."""

    def __init__(self, capture: Capture, most: int = KEPT_STATES) -> None:
        self.capture = capture
        self.start = 0
        self._most = min(most, KEPT_STATES)
        self._rows = np.empty((0, capture[2]), np.float32)

    @property
    def end(self) -> int:
        return self.start + len(self._rows)

    def add(self, start: int, rows: F32) -> None:
        """Takes those of tokens from number ``start`` on, float32 (n, columns). Where tokens are read again they have
        the same bits, and behind a gap those before it are of no use."""
        if self.start <= start <= self.end:
            rows = np.concatenate([self._rows[: start - self.start], rows])
            start = self.start
        left_out = max(0, len(rows) - self._most)
        self.start, self._rows = start + left_out, rows[left_out:].copy()

    def take(self, start: int) -> F32:
        """Gives those from number ``start`` on, and keeps none of them."""
        rows = self._rows[start - self.start :]
        self.start, self._rows = self.end, self._rows[:0]
        return rows

    def clear(self) -> None:
        """Forgets all: the text is another one now."""
        self.start, self._rows = 0, self._rows[:0]
