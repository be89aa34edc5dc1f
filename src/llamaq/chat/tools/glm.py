"""GLM 4.5 and later: calls whose arguments are pairs of a key and a value in tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.style import Said, Style
from llamaq.chat.tools.syntax import Syntax
from llamaq.chat.tools.tagged import choices_of, json_value, properties_of, typed
from llamaq.structure import json_term, literal

__all__ = ["GlmCalls"]

_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"
_CALL, _CALL_END = "<tool_call>", "</tool_call>"


class GlmCalls(ToolReader):
    """``<tool_call>f<arg_key>x</arg_key><arg_value>1</arg_value></tool_call>``, with or without lines between them."""

    marks = (_CALL, _CALL_END, _KEY, _KEY_END, _VALUE, _VALUE_END)

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until(_CALL, show=self.show)
            if mark is None:
                return
            name, mark = yield from self.until(_KEY, _CALL_END, "{")
            if mark is None or not name.strip() or len(name.split()) > 1:
                self.show(f"{_CALL}{name}{mark or ''}")
                continue
            self.begin_call(name.strip())
            if mark == _KEY:
                yield from self._pairs(self.parameters.get(name.strip(), {}))
            elif mark == "{":  # held to a schema that pairs cannot say
                self.text = mark + self.text
                yield from self.json_value(self.add_arguments)
                yield from self.until(_CALL_END)
            else:
                self.add_arguments("{}")
            if not (yield from self.skip()):
                return

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        line = "\n" if f"{_KEY_END}\n{_VALUE}" in template else ""
        style = Style(partial(_arguments, line), _text)
        return Syntax(f"{_CALL}$name{line}", _CALL_END, between=line, style=style)

    def _pairs(self, types: Mapping[str, Any]) -> Waiting:
        before, mark = "{", _KEY
        while mark == _KEY:
            key, _ = yield from self.until(_KEY_END)
            yield from self.skip()
            yield from self.expect(_VALUE)
            value, mark = yield from self.until(_VALUE_END, _CALL_END)
            if mark is None:
                return
            key, value = key.strip(), typed(value, types.get(key.strip()))
            self.add_arguments(f"{before}{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
            before = ", "
            if mark == _VALUE_END:
                yield from self.skip()
                mark = yield from self.expect(_KEY, _CALL_END)
        if mark == _CALL_END or not self.cut:
            self.add_arguments("}")


def _arguments(line: str, schema: Mapping[str, Any], said: Said) -> str:
    """In pairs, or as JSON where a schema says what these cannot."""
    found = properties_of(schema)
    if found is None:
        return json_term(schema)
    terms = []
    for name, value in found.schemas.items():
        written = _written(value, found.definitions, said)
        if written is None:
            return json_term(schema)
        pair = f"{said(_KEY)} {literal(name)} {said(f'{_KEY_END}{line}{_VALUE}')} {written} {said(line)}"
        terms.append(f"({pair}){'' if name in found.required else '?'}")
    return " ".join(terms) or literal("")


def _written(schema: Any, definitions: Mapping[str, Any], said: Said) -> str | None:
    """A value and its end: a text as it is, anything else as JSON."""
    choices, end = choices_of(schema), said(_VALUE_END)
    if choices is None:
        if isinstance(schema, Mapping) and schema.get("type") == "string":
            return None
        found = json_value(schema, definitions)
        return None if found is None else f"{found} {end}"
    if choices:
        return None if any(_VALUE_END in choice for choice in choices) else f"({_either(choices)}) {end}"
    return f"TEXT? {end}" if _is_token(said) else "TEXT"


def _either(choices: list[str]) -> str:
    return " | ".join(map(literal, choices))


def _is_token(said: Said) -> bool:
    return said(_VALUE_END).startswith("<[")


def _text(said: Said) -> str:
    """A rule for a text; where its end is no token, up to that."""
    if _is_token(said):
        return "TEXT: /(?s:.+)/"
    return rf"TEXT: (/(?s:.*)/ & ~/(?s:.*<\/arg_value>.*)/) {literal(_VALUE_END)}"
