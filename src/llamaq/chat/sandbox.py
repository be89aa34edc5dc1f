"""jinja2's immutable sandbox as Hugging Face sets it up, in which no template takes more than its meter allows.

Every value that a template makes, joins, passes on or writes is paid for by its size, and each turn of a loop by the
text in it; operations whose result can be much larger than what goes in are paid for before they run.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import datetime
from functools import wraps
from typing import Any, cast

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from llamaq.chat.meter import charge, spend, weight

__all__ = ["Sandbox"]

MAX_BITS = 4096  # of an integer


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METHODS: dict[type, frozenset[str]] = {
    str: _words(
        "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit "
        "isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition "
        "removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith "
        "strip swapcase title upper zfill"
    ),
    dict: frozenset(("copy", "get", "items", "keys", "values")),
    list: frozenset(("copy", "count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(),
    float: frozenset(("is_integer",)),
    bytes: frozenset(),
}
"""What templates may call of builtin types: nothing that changes them, or makes much of little."""

_BY_REFERENCE = _words(
    "length count first last list reverse map select reject selectattr rejectattr items default d batch slice "
    "dictsort sort unique groupby min max attr"
)
"""Filters that do not look into what a list holds."""
_QUADRATIC = frozenset(("striptags", "sum", "urlize", "wordwrap"))
_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all chat templates. Render and compile with ``meter.current`` set."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=charge,
            cache_size=0,
        )
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime(None)}
        self.filters["tojson"] = _tojson
        self.filters = {name: _guarded(name, filter) for name, filter in self.filters.items()}
        self.filters["format"] = _guarded("%", DEFAULT_FILTERS["format"])
        self.filters |= {"llamaq charge": charge, "llamaq turns": _turns}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _guarded(name, test) for name, test in tests.items()}

    def now_globals(self, now: datetime | None) -> dict[str, Any]:
        """The global that tells the time ``now`` instead of the clock's."""
        return {"strftime_now": _strftime(now)}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Charges().visit(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods and super().is_safe_attribute(obj, attr, value)
        return super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(weight(args) + weight(kwargs))
        method = getattr(__obj, "__wrapped__", __obj)  # what jinja2 puts around str.format
        if isinstance(owner := getattr(method, "__self__", None), str):
            spend(_growth(method.__name__, owner, args, kwargs))
        return charge(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            spend(_growth("%", left, (right,), {}))
        elif operator == "*":
            spend(_product_size(left, right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
        elif operator == "+":
            spend(weight(left) + weight(right))
        return super().call_binop(context, operator, left, right)


class _Charges(NodeTransformer):
    """Puts a charge around lists, tuples, dicts, parts of ``~`` and, for each turn, loops."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), "llamaq turns", nodes.Const(text))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filtered(part, "llamaq charge") for part in node.nodes]
        return node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "llamaq charge")

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "llamaq charge") if node.ctx == "load" else node


def _filtered(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno, environment=node.environment)


class _Generation(Extension):
    """``{% generation %}``, by which templates mark what the model writes: here, its body as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that pays for what it gets and makes. (``wraps`` keeps jinja2's mark for the first argument.)"""
    first = hasattr(function, "jinja_pass_arg")

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        values = [_listed(arg) for arg in args[first:]]
        if name in _BY_REFERENCE:
            spend(sum(len(value) if isinstance(value, str | list | tuple | dict) else 1 for value in values))
        else:
            size = weight(values)
            spend(size + (size * size >> 14 if name in _QUADRATIC else 0))
        if values:
            spend(_growth(name, values[0], values[1:], kwargs))
        return function(*args[:first], *values, **kwargs)

    return guarded


def _listed(value: Any) -> Any:
    """Generators, such as what ``map`` gives, as lists: their size can be seen."""
    if not isinstance(value, Iterator):
        return value
    found = []
    for item in value:
        spend(weight(item))
        found.append(item)
    return found


def _turns(value: Iterable[Any], text: int) -> Iterator[Any]:
    for item in value:
        spend(text)
        yield item


def _growth(name: str, value: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Units for what a filter or method of this name can make beyond the size of ``value``."""
    extra = [*args, *kwargs.values()]
    if name in ("%", "format", "format_map"):
        text = str(value)
        if _WIDE.search(text) if name == "%" else _has_wide_field(text):
            raise SecurityError(f"the width in the format {text[:50]!r} is refused")
        return (text.count("%") + text.count("{")) * weight(extra)
    lines = 1 + (value.count("\n") if isinstance(value, str) else len(value) if isinstance(value, list | dict) else 0)
    numbers = max((abs(n) for n in extra if isinstance(n, int)), default=0)
    if name == "replace" and len(extra) >= 2 and isinstance(value, str):
        old, new = str(extra[0]), str(extra[1])
        return value.count(old) * len(new)
    if name == "join":
        parts = extra[0] if isinstance(value, str) and extra else value
        texts = [value if isinstance(value, str) else "", *(e for e in extra if isinstance(e, str))]
        return len(parts) * max(map(len, texts)) if isinstance(parts, Sized) else 0
    if name == "tojson":
        return weight(value) * max([numbers, *(len(e) for e in extra if isinstance(e, str))])
    return numbers * lines


def _has_wide_field(text: str) -> bool:
    """Whether a field of a format for ``str.format`` has a width of four digits, or one that it is given."""
    specs = [spec for _, _, spec, _ in string.Formatter().parse(text) if spec]
    return any("{" in spec or re.search(r"\d{4}", spec) for spec in specs)


def _product_size(left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
        return 0
    times, what = (left, right) if isinstance(left, int) else (right, left)
    return max(times, 0) * weight(what) if isinstance(times, int) else 0


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise OverflowError(f"an integer of more than {MAX_BITS} bits is refused")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(format: str) -> str:
        if re.search(r"%[^a-zA-Z%]*\d", format):
            raise SecurityError(f"the width in the time format {format[:50]!r} is refused")
        return (now or datetime.now()).strftime(format)

    return strftime_now


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face has it: plain JSON, where jinja2 would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
