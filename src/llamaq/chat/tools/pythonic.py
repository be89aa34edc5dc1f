"""LFM 2 and OLMo 3: calls written as Python, ``f(x="a", y=1)``, between marks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from llamaq.chat.tools.keyed import TAKEN_BY_NAME
from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.syntax import Syntax

__all__ = ["FunctionCalls", "PythonicCalls", "python_call"]

_HEAD = re.compile(r"[\s,]*([\w.:/-]+)\(")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "null": None}


class PythonicCalls(ToolReader):
    """``<|tool_call_start|>[f(x="a")]<|tool_call_end|>``, values being Python's or JSON's."""

    marks = ("<|tool_call_start|>", "<|tool_call_end|>")
    listing: ClassVar[tuple[str, str, str]] = ("[", ", ", "]")
    """What stands before the calls, between and behind them."""

    def parse(self) -> Waiting:
        begin, end = self.marks
        while True:
            _, mark = yield from self.until(begin, show=self.show)
            if mark is None:
                return
            text, mark = yield from self.until(end)
            calls = None if mark is None and self.cut else _calls(text)
            for name, arguments in calls or ():
                self.begin_call(name)
                self.add_arguments(arguments)
            if not calls:
                self.show(f"{begin}{text}{mark or ''}")
            if not (yield from self.skip()):
                return

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        (begin, end), (opens, between, closes) = cls.marks, cls.listing
        before, after = begin + opens, closes + end
        return Syntax("$name(", ")", before=before, between=between, after=after, style=TAKEN_BY_NAME)

    @classmethod
    def written(cls, calls: Sequence[Mapping[str, Any]]) -> str | None:
        (begin, end), (opens, between, closes) = cls.marks, cls.listing
        return begin + opens + between.join(_written(call["function"]) for call in calls) + closes + end


class FunctionCalls(PythonicCalls):
    """OLMo 3: ``<function_calls>f(x="a")</function_calls>``, each call on a line of its own."""

    marks = ("<function_calls>", "</function_calls>")
    listing = ("", "\n", "")


def python_call(code: str) -> tuple[str, str] | None:
    """The name and the JSON of the arguments of a call written as Python, ``f.call(x=1)``, ``f(**{"x": 1})``."""
    try:
        call = ast.parse(_ESCAPE.sub(_python_escape, code), mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            return None
        arguments: dict[str, Any] = {}
        for keyword in call.keywords:
            value = ast.literal_eval(_Constants().visit(keyword.value))
            arguments.update(value if keyword.arg is None else {keyword.arg: value})
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        # JSON writes some characters as pairs of surrogates; half of one is no text.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        return ast.unparse(call.func).removesuffix(".call"), text
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _python_escape(escape: re.Match[str]) -> str:
    """JSON may escape a slash, which Python takes for two characters."""
    return "/" if escape[1] == "/" else escape[0]


class _Constants(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


def _calls(text: str) -> list[tuple[str, str]]:
    """The calls of a list; none where one of them is no call."""
    found = []
    for name, call in _parts(text.strip().removeprefix("[").removesuffix("]")):
        read = python_call(call)
        if read is None:
            return []
        found.append((name, read[1]))
    return found


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Each call's name, which may be none of Python's, and the call by another name; "" for what is no call."""
    at = 0
    while text[at:].strip():
        head = _HEAD.match(text, at)
        end = None if head is None else _closing(text, head.end())
        if head is None or end is None:
            yield "", ""
            return
        yield head[1], f"f({text[head.end() : end]})"
        at = end + 1


def _closing(text: str, at: int) -> int | None:
    """Where the bracket is closed that stands open before ``at``."""
    depth, quote, escaped = 1, "", False
    for place in range(at, len(text)):
        character = text[place]
        if quote:
            quote = quote if escaped or character != quote else ""
            escaped = character == "\\" and not escaped
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if not depth:
                return place
    return None


def _written(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    given = arguments if isinstance(arguments, Mapping) else json.loads(arguments)
    return f"{function['name']}({', '.join(f'{key}={_literal(value)}' for key, value in given.items())})"


def _literal(value: Any) -> str:
    """A value as Python writes it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
