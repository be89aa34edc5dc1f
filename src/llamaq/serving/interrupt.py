"""Waiting that Ctrl-C ends for certain."""

from __future__ import annotations

import threading

__all__ = ["LONGEST", "at_once"]

LONGEST = 3600.0
"""Seconds of one wait; a longer one is made of several, for the system's clocks overflow."""


def at_once(seconds: float | None) -> float | None:
    """How long to wait in one piece of a wait of so many seconds (None: without an end).

    A signal that comes after Python last looked for one and before the lock is waited for stays unseen until the wait
    ends. Only the main thread gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return seconds
    return 0.05 if seconds is None else min(seconds, 0.05)
