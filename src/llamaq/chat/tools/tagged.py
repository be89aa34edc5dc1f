"""Arguments in tags, as Qwen3-Coder writes them: ``<parameter=x>`` and a value on lines of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llamaq.structure import json_term, literal

__all__ = ["TEXT", "tagged_arguments"]

_NAME = re.compile(r"[\w.-]+")
_LINE = "\n"
_END = "\n</parameter>\n"
_ENDING = re.compile("</(parameter|function)>")
TEXT = r'TEXT: (/(?s:.*)/ & ~/(?s:.*<\/(parameter|function)>.*)/) "\n</parameter>\n"'
"""A rule for a text and the end of its tag."""
_ELSEWHERE = re.compile(r'"\$ref": "(?!#/(\$defs|definitions)/)')
_ABOUT = {"title", "description", "default", "examples", "deprecated"}
_OBJECT = {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", *_ABOUT}


def tagged_arguments(schema: Mapping[str, Any]) -> str:
    """A term for arguments that a schema accepts: in tags, or as JSON where it says what tags cannot."""
    found = _tags(schema)
    return f"{json_term(schema)} {literal(_LINE)}" if found is None else found


def _tags(schema: Mapping[str, Any]) -> str | None:
    properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
    if set(schema) - _OBJECT or required - set(properties) or not all(map(_NAME.fullmatch, properties)):
        return None
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    terms = []
    for name, value in properties.items():
        written = _value(value, definitions)
        if written is None:
            return None
        tag = literal("<parameter=" + name + ">\n")
        terms.append(f"({tag} {written}){'' if name in required else '?'}")
    return " ".join(terms) or literal("")


def _value(schema: Any, definitions: Mapping[str, Any]) -> str | None:
    """A value and the end of its tag. A text stands there as it is, anything else as JSON."""
    schema = {} if schema is True else schema
    if not isinstance(schema, Mapping) or _ELSEWHERE.search(json.dumps(schema, default=str)):
        return None
    if schema.get("type") != "string":
        return f"{json_term({**schema, **definitions})} {literal(_END)}"
    if set(schema) - {"type", "enum", *_ABOUT}:
        return None
    if "enum" not in schema:
        return "TEXT"
    choices = [choice for choice in schema["enum"] if isinstance(choice, str)]
    if not choices or any(map(_ENDING.search, choices)):
        return None
    return f"({' | '.join(literal(choice + _END) for choice in choices)})"
