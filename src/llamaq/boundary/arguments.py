"""What callers give, checked where it comes in: a TypeError for the wrong kind, a ValueError for the wrong value; both
name the argument."""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from llamaq.errors import naming

__all__ = [
    "INT32",
    "MOST_SCALE",
    "MOST_THREADS",
    "flag",
    "function",
    "instance",
    "items",
    "one_of",
    "path_of",
    "real",
    "shown",
    "text",
    "text_or_bytes",
    "texts",
    "whole",
    "wholes",
]

INT32 = 2**31 - 1
"""The most that a count of tokens or rows can be."""

MOST_THREADS = 1024
MOST_SCALE = 1e6
"""Of an adapter: no scale is greater, and none that is of use comes near it."""
"""The compiled core starts no more."""

T = TypeVar("T")
_E = TypeVar("_E", bound=Exception)

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def shown(value: object) -> str:
    """The value in a message: short, whatever it is."""
    try:
        return _repr.repr(value)
    except Exception:  # an integer of thousands of digits, or an object whose repr fails
        return f"<{type(value).__name__}>"


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An integer, also one of NumPy's, from ``least`` to ``most``."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise _wrong(TypeError, name, f"a whole number{_range(least, most)}, got {shown(value)}") from None
    if (least is not None and number < least) or (most is not None and number > most):
        raise _wrong(ValueError, name, f"a whole number{_range(least, most)}, got {shown(number)}")
    return number


def real(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """A number from ``least`` to ``most``, also one of NumPy's; an integer beyond all floats is infinite."""
    if type(value) is float and least <= value <= most:  # nearly all are, and each request has many
        return value
    limits = _range(least if least > -math.inf else None, most if most < math.inf else None)
    wanted = f"a number{limits}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _wrong(TypeError, name, f"{wanted}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf  # type: ignore[operator]
    if not least <= number <= most:
        raise _wrong(ValueError, name, f"{wanted}, got {shown(value)}")
    return number


def text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise _wrong(TypeError, name, f"text, got {shown(value)}")
    return value


def one_of(name: str, value: Any, choices: Iterable[T]) -> T:
    """One of a few words."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise _wrong(ValueError, name, f"{', '.join(others)} or {last}, got {shown(value)}")
    return value


def path_of(name: str, value: Any) -> Path:
    """A path to a file."""
    if not isinstance(value, str | os.PathLike):
        raise _wrong(TypeError, name, f"a path, got {shown(value)}")
    path = Path(value)
    try:
        if not os.fspath(value) or b"\0" in os.fsencode(path):
            raise ValueError
    except ValueError:  # this is also how a surrogate fails that stands for no byte
        raise _wrong(ValueError, name, f"a path that the system can have, got {shown(value)}") from None
    return path


def instance(name: str, value: Any, kind: type[T], what: str = "") -> T:
    """An object of a class; ``what`` says of which in other words than its name."""
    if not isinstance(value, kind):
        raise _wrong(TypeError, name, f"{what or f'a {kind.__name__}'}, got {shown(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """Whatever is true or false."""
    try:
        if getattr(value, "ndim", 0):  # an array, of which NumPy tells or warns in its own words, if at all
            raise TypeError
        return bool(value)
    except Exception:
        raise _wrong(TypeError, name, f"true or false, got {shown(value)}") from None


def function(name: str, value: T) -> T:
    """What can be called."""
    if not callable(value):
        raise _wrong(TypeError, name, f"a function, got {shown(value)}")
    return value


def items(name: str, value: Any, what: str) -> list[Any]:
    """The elements of a list, tuple, array or whatever else gives some; ``what`` says of what. Text is none of them,
    though Python lets one go over its letters."""
    try:
        if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
            raise TypeError
        return list(value)
    except TypeError:
        raise _wrong(TypeError, name, f"a list of {what}, got {shown(value)}") from None


def text_or_bytes(name: str, value: Any) -> str | bytes:
    """A str or bytes."""
    if not isinstance(value, str | bytes | bytearray | memoryview):
        raise _wrong(TypeError, name, f"text or bytes, got {shown(value)}")
    return value if isinstance(value, str) else bytes(value)


def texts(name: str, value: Any) -> tuple[str, ...]:
    """A str, or several."""
    return (
        (value,) if isinstance(value, str) else tuple(text(f"each of {name}", x) for x in items(name, value, "texts"))
    )


def wholes(name: str, value: Any, what: str, least: int | None = None, most: int | None = None) -> list[int]:
    """Integers from ``least`` to ``most``, in a list or a NumPy array of one dimension."""
    found = items(name, value.tolist() if hasattr(value, "dtype") else value, what)
    if not all(type(x) is int for x in found):
        found = [whole(f"each of {name}", x) for x in found]
    for extreme in (min(found), max(found)) if found else ():
        whole(f"each of {name}", extreme, least, most)
    return found


def _wrong(kind: type[_E], name: str, expected: str) -> _E:
    """What an argument must be and is not; its name is the last word of ``name``."""
    return naming(kind(f"{name} must be {expected}"), name.rpartition(" ")[2])


def _range(least: float | None, most: float | None) -> str:
    low, high = (f"{x:g}" if isinstance(x, float) else str(x) for x in (least, most))
    if most is None:
        return "" if least is None else f" of at least {low}"
    return f" of at most {high}" if least is None else f" from {low} to {high}"
