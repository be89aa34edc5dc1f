"""Arguments in tags, as Qwen3-Coder writes them: ``<parameter=x>`` and a value on lines of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamaq.chat.json_text import read_json
from llamaq.chat.tools.style import Said, Style
from llamaq.structure import json_term, literal

__all__ = ["TAGGED", "Properties", "choices_of", "json_value", "properties_of", "typed"]

_NAME = re.compile(r"[\w.-]+")
_LINE = "\n"
_END = "\n</parameter>\n"
_ENDING = re.compile("</(parameter|function)>")
_TEXT = r'TEXT: (/(?s:.*)/ & ~/(?s:.*<\/(parameter|function)>.*)/) "\n</parameter>\n"'
"""A rule for a text and the end of its tag."""
_ELSEWHERE = re.compile(r'"\$ref": "(?!#/(\$defs|definitions)/)')
_ABOUT = {"title", "description", "default", "examples", "deprecated"}
_OBJECT = {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", *_ABOUT}


@dataclass(frozen=True)
class Properties:
    """The parameters of a function by name, those of them that are required, and what ``$ref`` may name."""

    schemas: Mapping[str, Any]
    required: frozenset[str]
    definitions: Mapping[str, Any]


def properties_of(schema: Mapping[str, Any]) -> Properties | None:
    """What a schema says of an object; None where that is more than its parameters, or a name is no plain one."""
    properties, required = schema.get("properties") or {}, frozenset(schema.get("required") or ())
    if set(schema) - _OBJECT or required - set(properties) or not all(map(_NAME.fullmatch, properties)):
        return None
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return Properties(properties, required, definitions)


def json_value(schema: Any, definitions: Mapping[str, Any]) -> str | None:
    """A term for a value as JSON; None where the schema names a place that is not with it."""
    schema = {} if schema is True else schema
    if not isinstance(schema, Mapping) or _ELSEWHERE.search(json.dumps(schema, default=str)):
        return None
    return json_term({**schema, **definitions})


def choices_of(schema: Any) -> list[str] | None:
    """The texts that a value may be, none for any text; None where it is no text, or has more bounds than that."""
    if not isinstance(schema, Mapping) or schema.get("type") != "string" or set(schema) - {"type", "enum", *_ABOUT}:
        return None
    if "enum" not in schema:
        return []
    return [choice for choice in schema["enum"] if isinstance(choice, str)] or None


def typed(text: str, schema: Any) -> Any:
    """A parameter's value: text where the tool's schema says so, else JSON if it is some. Where it may be text, JSON of
    a kind that the schema does not have is that: "42" for a text or null."""
    kinds = _kinds(schema)
    if kinds == {"string"}:
        return text
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return text
    return text if kinds is not None and "string" in kinds and not kinds & _kinds_of(value) else value


def _kinds(schema: Any) -> set[str] | None:
    """The types that a schema names; None where it may be others, too."""
    if not isinstance(schema, Mapping):
        return None
    kind = schema.get("type")
    if kind is not None:
        return {kind} if isinstance(kind, str) else {*map(str, kind)} if isinstance(kind, list) else None
    ways = [_kinds(way) for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list) for way in schema[key]]
    known = [way for way in ways if way is not None]
    return {kind for way in known for kind in way} if known and len(known) == len(ways) else None


def _kinds_of(value: Any) -> set[str]:
    """The names that schemas have for a value's type."""
    if value is None or isinstance(value, bool):
        return {"null" if value is None else "boolean"}
    if isinstance(value, int | float):
        return {"number", "integer"} if value == int(value) else {"number"}
    return {"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"}


def _tagged(schema: Mapping[str, Any], said: Said) -> str:
    """In tags, or as JSON where a schema says what tags cannot."""
    found = _tags(schema)
    return f"{json_term(schema)} {literal(_LINE)}" if found is None else found


def _tags(schema: Mapping[str, Any]) -> str | None:
    found = properties_of(schema)
    if found is None:
        return None
    terms = []
    for name, value in found.schemas.items():
        written = _value(value, found.definitions)
        if written is None:
            return None
        tag = literal("<parameter=" + name + ">\n")
        terms.append(f"({tag} {written}){'' if name in found.required else '?'}")
    return " ".join(terms) or literal("")


def _value(schema: Any, definitions: Mapping[str, Any]) -> str | None:
    """A value and the end of its tag. A text stands there as it is, anything else as JSON."""
    if not isinstance(schema, Mapping) or schema.get("type") != "string":
        written = json_value(schema, definitions)
        return None if written is None else f"{written} {literal(_END)}"
    choices = choices_of(schema)
    if choices is None or any(map(_ENDING.search, choices)):
        return None
    return f"({' | '.join(literal(choice + _END) for choice in choices)})" if choices else "TEXT"


TAGGED = Style(_tagged, lambda said: _TEXT)
