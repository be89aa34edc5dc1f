"""Logit processors are called by many threads, but each by one at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

__all__ = ["in_turn", "is_inside"]


class _Turn:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class _Own(threading.local):
    def __init__(self) -> None:
        self.inside: list[int] = []


_guard = threading.Lock()
_turns: dict[int, _Turn] = {}  # turns by the id of an object that is being called, or waited for
_own = _Own()


@contextmanager
def in_turn(processor: Any) -> Iterator[None]:
    """Nobody else calls the processor, or another method of its object, meanwhile."""
    key = _key(processor)
    if key in _own.inside:
        yield
        return
    with _guard:
        turn = _turns.setdefault(key, _Turn())
        turn.users += 1
    try:
        with turn.lock:
            _own.inside.append(key)
            try:
                yield
            finally:
                _own.inside.pop()
    finally:
        with _guard:
            turn.users -= 1
            if not turn.users:
                del _turns[key]


def is_inside(processor: Any) -> bool:
    """Whether this thread is in the middle of a call of the processor."""
    return _key(processor) in _own.inside


def _key(processor: Any) -> int:
    return id(processor.__self__ if isinstance(processor, MethodType) else processor)


def _in_child() -> None:
    """A forked child has not the threads whose turn it was."""
    global _guard
    _guard = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
