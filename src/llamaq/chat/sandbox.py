"""jinja2's immutable sandbox as Hugging Face sets it up, in which no template takes more than its meter allows.

Every value that a template makes, joins, passes on or writes is paid for by its size, and each turn of a loop by the
text in it; what can do much with little is paid for before it runs (``llamaq.chat.costs``). Compiling pays for tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import datetime
from functools import wraps
from typing import Any, cast

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from llamaq.chat.costs import check_int, filter_cost, listed, method_cost, operator_cost, pairs_cost, test_cost
from llamaq.chat.meter import UNITS_PER_TOKEN, charge, spend, weight

__all__ = ["Sandbox"]


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

_UNKNOWN_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters for web pages and for people who debug them, whose work grows faster than their text."""
_JINJAS_OWN = ("_block_vars", "_loop_vars")
"""Arguments that jinja2 adds to calls."""
_LONGEST_TIME = 1000  # characters of a format for the time


class _Generator(CodeGenerator):
    """Pays for each part of a template that it turns into Python."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        spend()
        return super().visit(node, *args, **kwargs)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all chat templates. Render and compile with ``meter.current`` set."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=charge,
            cache_size=0,
            optimized=False,  # the optimizer looks at an expression as often as it is deep
        )
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime(None)}
        self.filters["tojson"] = _tojson
        self.filters = {name: _guarded(name, filter) for name, filter in self.filters.items()}
        for name in _UNKNOWN_FILTERS:
            del self.filters[name]
        self.filters |= {"llamaq charge": charge, "llamaq slice": _sliced, "llamaq turns": _turns}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _guarded_test(name, test) for name, test in tests.items()}

    def now_globals(self, now: datetime | None) -> dict[str, Any]:
        """The global that tells the time ``now`` instead of the clock's."""
        return {"strftime_now": _strftime(now)}

    def _tokenize(self, source: str, name: str | None, filename: str | None = None, state: str | None = None) -> Any:
        stream = super()._tokenize(source, name, filename, state)
        return TokenStream(map(_paid, stream), name, filename)

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
        method = getattr(__obj, "__wrapped__", __obj)  # jinja2 puts a wrapper around str.format
        owner = getattr(method, "__self__", None)
        makes = __obj is dict or __obj is Namespace
        if makes or isinstance(owner, str | list | tuple | dict):  # these read all of a generator at once
            args = tuple(map(listed, args))
        given = {key: value for key, value in kwargs.items() if key not in _JINJAS_OWN}
        spend(weight(args) + weight(given) + method_cost(owner, getattr(method, "__name__", ""), args, given))
        if makes:
            spend(pairs_cost(args))
        return charge(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        spend(operator_cost(operator, left, right))
        return super().call_binop(context, operator, left, right)


class _Charges(NodeTransformer):
    """Puts a charge around lists, tuples, dicts, slices, what is compared, parts of ``~`` and, for each turn, loops."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), "llamaq turns", nodes.Const(text))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filtered(part, "llamaq charge") for part in node.nodes]
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "llamaq charge")
        for part in node.ops:
            part.expr = _filtered(part.expr, "llamaq charge")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        if isinstance(node.node, nodes.Const | nodes.UnaryExpr):  # Python warns where it sees the slice of a number
            node.node = _filtered(node.node, "llamaq charge")
        return _filtered(node, "llamaq slice")

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        check_int(node.value)
        return node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "llamaq charge")

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "llamaq charge") if node.ctx == "load" else node


def _paid(token: Token) -> Token:
    spend(UNITS_PER_TOKEN)
    return token


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
    """A filter that pays for what it gets and makes. (``wraps`` keeps jinja2's mark for the first argument.)"""
    first = hasattr(function, "jinja_pass_arg")

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        values = [listed(arg) for arg in args[first:]]
        spend(filter_cost(name, values, kwargs))
        return _checked(function(*args[:first], *values, **kwargs))

    return guarded


def _guarded_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    first = hasattr(function, "jinja_pass_arg")

    @wraps(function)
    def guarded(*args: Any) -> Any:
        spend(test_cost(name, list(args[first:])))
        return function(*args)

    return guarded


def _checked(value: Any) -> Any:
    check_int(value)
    if isinstance(value, str):
        spend(len(value))
    return value


def _sliced(value: Any) -> Any:
    """A slice pays for its length; what it holds has been paid for."""
    spend(len(value) if isinstance(value, Sized) else 0)
    return value


def _turns(value: Iterable[Any], text: int) -> Iterator[Any]:
    for item in value:
        spend(text)
        yield item


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(format: str) -> str:
        if re.search(r"%[^a-zA-Z%]*\d", format) or len(format) > _LONGEST_TIME:
            raise SecurityError(f"the time format {format[:50]!r} is refused: it is long, or has a width")
        return (now or datetime.now()).strftime(format)

    return strftime_now


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON, as Hugging Face has it; jinja2 would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
