"""What filters, tests, methods and operators of templates pay before they run.

All pay for the size of what they get. Those that can do or make much with little pay for that, too: each has a cost
here that takes what the filter or method takes, so that Python itself binds the arguments.
"""

from __future__ import annotations

import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext

from llamaq.chat.meter import UNITS_PER_VALUE, spend, weight

__all__ = ["check_int", "filter_cost", "listed", "method_cost", "operator_cost", "pairs_cost", "test_cost"]

MAX_BITS = 4096  # bits of the largest integer
MAX_PRECISION = 1000  # digits after the point
_SPEC = 2000  # characters of a field whose width and precision have three digits

_PEEKS = frozenset(
    ("attr", "count", "d", "default", "first", "items", "last", "length", "map", "random", "reject", "rejectattr",
     "reverse", "select", "selectattr")
)  # fmt: skip
"""Filters that do not look into what a list holds, or do when their results are asked for."""
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
_WIDE = re.compile(r"%%|%(?:\([^()]*\))?[-+ #0]*(?P<wide>\*|\d{4}|\d*\.(?:\*|\d{4}))|%\([^()]*(?P<nested>\()")


def filter_cost(name: str, args: list[Any], kwargs: dict[str, Any]) -> int:
    """Units of a filter; ``args`` without the context that some get."""
    if name in _PEEKS:
        return sum(len(arg) if isinstance(arg, str | list | tuple | dict) else 1 for arg in args)
    extra = [*args[1:], *kwargs.values()]
    paths = sum(1 + text.count(".") + text.count(",") for text in extra if isinstance(text, str))  # attributes
    units = weight(args) + weight(kwargs) + (_length(args[0]) * paths if args and not isinstance(args[0], str) else 0)
    return units + (_FILTERS[name](*args, **kwargs) if name in _FILTERS else 0)


def test_cost(name: str, args: list[Any]) -> int:
    """Units of a test."""
    remainder = (
        name in ("even", "odd", "divisibleby") and args and isinstance(args[0], str)
    )  # args[0] is a format for "%"
    return weight(args) + (_percent(*args[:1], *args[1:]) if remainder else 0)


def method_cost(owner: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Units of a method of a builtin type."""
    if isinstance(owner, list | tuple):
        return weight(owner)  # it is compared with the argument
    return _METHODS[name](owner, *args, **kwargs) if isinstance(owner, str) and name in _METHODS else 0


def operator_cost(operator: str, left: Any, right: Any) -> int:
    """Units of a binary operator. Raises ``OverflowError`` for integers that become too large."""
    if operator == "%" and isinstance(left, str):
        return _percent(left, *(right if isinstance(right, tuple) else (right,)))
    if operator == "+":
        return weight(left) + weight(right)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))
    if operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() + right.bit_length())
        else:
            times, what = (left, right) if isinstance(left, int) else (right, left)
            return _whole(times) * weight(what)
    return 0


def pairs_cost(args: tuple[Any, ...]) -> int:
    """Units of a dict of pairs: keys that are integers can be chosen so that each is compared with all."""
    return sum(len(arg) * len(arg) >> 3 for arg in args if isinstance(arg, Sized) and not isinstance(arg, Mapping))


def check_int(value: Any) -> None:
    """Raises ``OverflowError`` for an integer that arithmetic would take long for."""
    if isinstance(value, int):
        _check_bits(value.bit_length())


def listed(value: Any) -> Any:
    """Generators, such as what ``map`` gives, as lists: their size can be seen."""
    if not isinstance(value, Iterator) or isinstance(value, LoopContext):
        return value
    found = []
    for item in value:
        spend(weight(item))
        found.append(item)
    return found


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise OverflowError(f"an integer of more than {MAX_BITS} bits is refused")


def _whole(number: Any) -> int:
    """A count or width; what is none will be refused by what it is for."""
    return max(number, 0) if isinstance(number, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _number_of(characters: str, text: str) -> int:
    return sum(map(text.count, characters))


def _listing(value: Any, *_: Any, **__: Any) -> int:
    """A text becomes a list of characters."""
    return len(value) * UNITS_PER_VALUE if isinstance(value, str) else 0


def _columns(value: Any, count: Any, fill_with: Any = None) -> int:
    return _listing(value) + _whole(count) * weight(fill_with)


def _padded(text: Any, width: Any = 80, fill: Any = " ") -> int:
    return _whole(width)


def _indented(s: Any, width: Any = 4, first: Any = False, blank: Any = False) -> int:
    by = len(width) if isinstance(width, str) else _whole(width)
    return (2 + _number_of(_LINE_ENDS, _text(s))) * by


def _replaced(s: Any, old: Any, new: Any, count: Any = None) -> int:
    return _text(s).count(_text(old)) * len(_text(new))


def _joined(value: Any, d: Any = "", attribute: Any = None) -> int:
    return _listing(value) + _length(value) * len(_text(d))


def _stripped(value: Any, chars: Any = None) -> int:
    """Each character is looked for among the others."""
    return len(_text(value)) * (len(chars) if isinstance(chars, str) else 0) >> 4


def _searched_backwards(text: str, sub: Any, *_: Any) -> int:
    """Python has the fast algorithm for searching forwards only."""
    return len(text) * len(sub) >> 4 if isinstance(sub, str) else 0


def _pieces(text: str, sep: Any = None, maxsplit: Any = -1) -> int:
    found = text.count(sep) if isinstance(sep, str) and sep else _number_of(_SPACES, text)
    return (1 + found) * UNITS_PER_VALUE


def _rsplit(text: str, sep: Any = None, maxsplit: Any = -1) -> int:
    return _pieces(text, sep) + _searched_backwards(text, sep)


def _lines(text: str, keepends: Any = False) -> int:
    return (1 + _number_of(_LINE_ENDS, text)) * UNITS_PER_VALUE


def _json(
    value: Any, ensure_ascii: Any = False, indent: Any = None, separators: Any = None, sort_keys: Any = False
) -> int:
    by = len(indent) if isinstance(indent, str) else _whole(indent)
    between = sum(len(part) for part in separators or () if isinstance(part, str))
    return weight(value) * (by + between)


def _percent(text: Any, *args: Any, **kwargs: Any) -> int:
    """A format by ``%``, whose fields may be as wide as they say."""
    format = _text(text)
    for found in _WIDE.finditer(format):
        if found["wide"] or found["nested"]:
            raise SecurityError(f"the width in the format {format[:50]!r} is refused")
    return format.count("%") * (_SPEC + weight(args) + weight(kwargs))


def _formatted(text: str, *args: Any, **kwargs: Any) -> int:
    """A format for ``str.format``: widths of four digits are refused, and ones that are given."""
    specs = [spec for _, _, spec, _ in string.Formatter().parse(text) if spec]
    if any("{" in spec or re.search(r"\d{4}", spec) for spec in specs):
        raise SecurityError(f"the width in the format {text[:50]!r} is refused")
    return text.count("{") * (_SPEC + weight(args) + weight(kwargs))


def _rounded(value: Any, precision: Any = 0, method: Any = "common") -> int:
    if not isinstance(value, int | float):
        raise TypeError(f"round takes numbers, not {type(value).__name__}")
    if isinstance(precision, int) and abs(precision) > MAX_PRECISION:
        raise OverflowError(f"rounding to {precision} digits is refused; at most {MAX_PRECISION}")
    return 0


def _read_int(value: Any, default: Any = 0, base: Any = 10) -> int:
    digits = len(value) if isinstance(value, str) else 0
    return digits * digits >> 8


def _sum(iterable: Any, attribute: Any = None, start: Any = 0) -> int:
    """Lists are added up one by one."""
    size = weight(iterable)
    return size * size >> 14


_FILTERS: dict[str, Callable[..., int]] = {
    "batch": _columns,
    "center": _padded,
    "format": _percent,
    "groupby": _listing,
    "indent": _indented,
    "int": _read_int,
    "join": _joined,
    "list": _listing,
    "replace": _replaced,
    "round": _rounded,
    "slice": _columns,
    "sort": _listing,
    "sum": _sum,
    "tojson": _json,
    "trim": _stripped,
}
_METHODS: dict[str, Callable[..., int]] = {
    "center": _padded,
    "format": _formatted,
    "join": lambda d, value: _joined(value, d),
    "ljust": _padded,
    "lstrip": _stripped,
    "replace": _replaced,
    "rfind": _searched_backwards,
    "rindex": _searched_backwards,
    "rjust": _padded,
    "rpartition": _searched_backwards,
    "rsplit": _rsplit,
    "rstrip": _stripped,
    "split": _pieces,
    "splitlines": _lines,
    "strip": _stripped,
    "zfill": _padded,
}
