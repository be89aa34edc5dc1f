"""How formats write calls, and the grammar that holds a model to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llamaq.chat.tools.style import JSON, Style
from llamaq.errors import ChatTemplateError, StructureError, naming
from llamaq.structure import Structure, json_schema, json_term, lark, literal, mark_id
from llamaq.tokenizer import Tokenizer

__all__ = ["Syntax", "calls_structure"]

_MARKS = re.compile(r"(<[^<>\s]+>|\[[A-Z_]+\])")
_NAME = re.compile(r"[\w.:/-]+")


@dataclass(frozen=True)
class Syntax:
    """The texts around the arguments of a call, ``$name`` standing for the function, around all calls of an answer, and
    ``between`` two of them (None: an answer has one). An answer without calls stands between ``opens``, marks that come
    one after another, and ``closes``. ``thought`` has what opens and closes reasoning that may come first, and what
    begins the next message; ``style`` is that of arguments."""

    head: str
    tail: str = ""
    before: str = ""
    between: str | None = None
    after: str = ""
    opens: tuple[str, ...] = ()
    closes: str = ""
    thought: tuple[str, str, str] | None = None
    style: Style = JSON


def calls_structure(
    syntax: Syntax, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]], *, several: bool,
    answer: Any = None, thinking: bool = False,
) -> Structure:  # fmt: skip
    """Calls of these tools, or JSON that the schema ``answer`` accepts where there is one; ``thinking`` says that the
    reasoning has begun, and its end has come.

    Raises ``StructureError`` for parameters that cannot be held to, ``ChatTemplateError`` for a name that the format
    has no place for.
    """
    functions = [tool.get("function", tool) for tool in tools]
    try:
        return _checked(_grammar(syntax, tokenizer, functions, several, answer, thinking))
    except StructureError:
        for function in functions:  # one of them is called
            try:
                json_schema(_parameters(function))
            except StructureError as error:
                raise naming(StructureError(f"tools: {function['name']}: {error}"), "tools") from None
        raise


def _grammar(
    syntax: Syntax, tokenizer: Tokenizer, functions: Sequence[Mapping[str, Any]], several: bool,
    answer: Any, thinking: bool,
) -> str:  # fmt: skip
    def said(text: str) -> str:
        """A text whose marks are tokens."""
        found = []
        for part in filter(None, _MARKS.split(text)):
            id = mark_id(tokenizer, part)
            found.append(literal(part) if id is None else f"<[{id}]>")
        return " ".join(found)

    more = f"({said(syntax.between)} call)*" if several and syntax.between is not None else ""
    rules = [
        f"calls: {said(syntax.before)} call {more} {said(syntax.after)}",
        f"call: {' | '.join(f'call_{i}' for i in range(len(functions)))}",
    ]
    for i, function in enumerate(functions):
        head, schema = syntax.head.replace("$name", _named(function)), _parameters(function)
        arguments = syntax.style.arguments(schema, said)
        rules.append(f"call_{i}: {said(head)} {arguments} {said(syntax.tail)}")
    if syntax.style.rule is not None:
        rules.append(syntax.style.rule(said))
    if answer is not None:
        rules.append(f"answer: {said(''.join(syntax.opens))} {json_term(answer)} {said(syntax.closes)}")
    before = r'("\n" | "\n\n")?' if thinking else ""
    if syntax.thought is not None:
        open, close, turn = syntax.thought
        if thinking:
            before = said(turn)
        elif mark_id(tokenizer, close) is not None:
            before = "thought?"
            rules.append(f"thought: {said(open)} THOUGHT? {said(close + turn)}\nTHOUGHT: /(?s:.+)/")
    start = f"start: {before} {'calls' if answer is None else '(calls | answer)'}"
    return "\n".join([start, *rules]) + "\n"


@lru_cache(64)
def _checked(grammar: str) -> Structure:
    return lark(grammar)


def _named(function: Mapping[str, Any]) -> str:
    name: str = function["name"]
    if not _NAME.fullmatch(name):
        wrong = f"tools: the model cannot be held to calls of {name!r:.80}: names have letters, digits and _ - . : /"
        raise naming(ChatTemplateError(wrong), "tools")
    return name


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments, which are an object; of one without parameters, an empty one."""
    schema = function.get("parameters") or {"properties": {}}
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise StructureError(f"its parameters must be the schema of an object, got type {json.dumps(kind)[:80]}")
    return {**schema, "type": "object"}
