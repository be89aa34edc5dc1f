"""What compiling or rendering a template may cost: characters made, steps taken, seconds of the thread's CPU time. A
value's weight is about its text's."""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, KeysView, ValuesView
from contextvars import ContextVar
from typing import Any

from jinja2 import TemplateRuntimeError
from jinja2.utils import Namespace

__all__ = ["SECONDS", "Meter", "charge", "current", "spend", "weight"]

UNITS = 1 << 26
"""Characters and steps of one compiling or rendering, besides ``UNITS_PER_CHARACTER`` for what it is given."""
UNITS_PER_CHARACTER = 1024
UNITS_PER_VALUE = 256
UNITS_PER_TOKEN = 4096
"""Units for each token of a template's text: 16384 are compiled at most, eight times what real ones have."""
SECONDS = 5.0
"""Seconds of the thread's CPU time: a busy machine makes no template worse."""
_GLANCE = 1024  # units between looks at the clock, which take a call of the system


class Meter:
    """Counts down; ``spend`` raises ``TemplateRuntimeError`` when units or time are used up."""

    def __init__(self, given: int = 0) -> None:
        self.left = UNITS + UNITS_PER_CHARACTER * given
        self._glance = self.left
        self._end = time.thread_time() + SECONDS

    def spend(self, units: int) -> None:
        self.left -= 1 + units
        if self.left > self._glance:
            return
        self._glance = self.left - _GLANCE
        if self.left < 0:
            raise TemplateRuntimeError("it makes too much text or too many steps")
        if time.thread_time() > self._end:
            raise TemplateRuntimeError(f"it takes more than {SECONDS:g} seconds")


current: ContextVar[Meter] = ContextVar("current")
"""The meter of the compiling or rendering that runs in this thread."""


def spend(units: int = 0) -> None:
    """Takes units, and one for the step itself, from the current meter."""
    current.get().spend(units)


def charge(value: Any) -> Any:
    """``value``, once its weight is paid."""
    spend(weight(value))
    return value


def weight(value: Any) -> int:
    """About the length of a value's text and the time to look at it: what a container holds twice counts twice.

    Stops where nobody could pay."""
    most = meter.left if (meter := current.get(None)) else UNITS
    total, stack = 0, [value]
    while stack and total <= most:
        item = stack.pop()
        if isinstance(item, str | bytes):
            total += len(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            total += item.bit_length() >> 2
        elif (parts := _parts(item)) is not None:
            stack += parts
        total += UNITS_PER_VALUE
    return total


def _parts(value: Any) -> Iterable[Any] | None:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, Namespace):
        attributes: dict[str, Any] = object.__getattribute__(value, "_Namespace__attrs")
        return attributes.values()
    if isinstance(value, list | tuple | set | frozenset | range | KeysView | ValuesView | ItemsView):
        return value
    return None
