"""The model's last states of a text's latest tokens, for a block that guesses further tokens (``engine.nextn``)."""

from __future__ import annotations

from threading import Lock
from weakref import WeakSet

import numpy as np

from llamaq.engine.memory import KEPT_ANSWERS, KEPT_STATES
from llamaq.serving.request import F32, Capture

__all__ = ["LastStates", "StatesRoom"]


class StatesRoom:
    """Room for the states of ``KEPT_ANSWERS`` texts. Those that come first have it until they end."""

    def __init__(self) -> None:
        self._texts: WeakSet[LastStates] = WeakSet()
        self._lock = Lock()

    def has(self, text: LastStates) -> bool:
        """Whether a text has room, or gets it now."""
        with self._lock:
            if len(self._texts) < KEPT_ANSWERS and not text.closed:
                self._texts.add(text)
            return text in self._texts

    def leave(self, text: LastStates) -> None:
        """A text has ended and needs none any more."""
        with self._lock:
            text.closed = True
            self._texts.discard(text)


class LastStates:
    """Those of tokens number ``start`` to before ``end`` of one text, as ``capture`` has them; ``most`` at a time, and
    none where there is no ``room``. A block that begins behind a long prompt sees ``KEPT_STATES`` tokens of it."""

    def __init__(self, capture: Capture, room: StatesRoom, most: int = KEPT_STATES) -> None:
        self.capture = capture
        self.start = 0
        self.closed = False
        self._room = room
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
        left_out = max(0, len(rows) - self._most) if self._room.has(self) else len(rows)
        self.start, self._rows = start + left_out, rows[left_out:].copy()

    def take(self, start: int) -> F32:
        """Gives those from number ``start`` on, and keeps none of them."""
        rows = self._rows[start - self.start :]
        self.start, self._rows = self.end, self._rows[:0]
        return rows

    def close(self) -> None:
        """Keeps nothing any more: the text has ended."""
        self._room.leave(self)
        self.clear()

    def clear(self) -> None:
        """Forgets all: the text is another one now."""
        self.start, self._rows = 0, self._rows[:0]
