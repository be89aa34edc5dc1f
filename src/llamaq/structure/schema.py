"""JSON schemas for llguidance, which understands most of draft 2020-12, with llama.cpp's habits added."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llamaq.errors import StructureError

from .engine import llguidance, validate

__all__ = ["compile_schema", "read_schema"]

_DEEPEST = 60
_LARGEST_INTEGER = 10**16 - 1
_WHITESPACE = r"[ ]|\n{1,2}[ \t]{0,20}"  # llama.cpp's; without a limit a model may write spaces for ever
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("prefixItems", "allOf", "anyOf", "oneOf")
_SINGLE = ("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains",
           "propertyNames", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip


def read_schema(text: str) -> Any:
    """The schema that a text holds. Raises ``StructureError`` where it is no JSON or too deep."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise StructureError(f"JSON schema: the text is no JSON ({error})") from None
    except RecursionError:
        raise StructureError(f"JSON schema: it is nested deeper than {_DEEPEST}") from None
    _check_depth(schema)
    return schema


def compile_schema(schema: Any) -> str:
    """The grammar in llguidance's form. Raises ``StructureError`` with the path of what it cannot use."""
    if not isinstance(schema, dict | bool):
        raise StructureError(f"JSON schema: $ must be an object or a boolean, got {json.dumps(schema)[:50]}")
    grammar = _grammar(_with_habits(schema))
    wrong = validate(grammar)
    if wrong:
        raise StructureError(f"JSON schema: {_where(schema)}: {wrong}")
    return grammar


def _grammar(schema: Any) -> str:
    # A schema that is not an object cannot hold options.
    schema = schema if isinstance(schema, dict) else {"anyOf": [schema]}
    grammar: str = llguidance().LLMatcher.grammar_from_json_schema(
        json.dumps(schema), overrides={"whitespace_pattern": _WHITESPACE, "lenient": False}
    )
    return grammar


def _check_depth(schema: Any) -> None:
    waiting = [(schema, "$", 1)]
    while waiting:
        value, path, depth = waiting.pop()
        if depth > _DEEPEST:
            raise StructureError(f"JSON schema: {path[:200]} is nested deeper than {_DEEPEST}")
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(child, f"{path}.{key}", depth + 1) for key, child in children]


def _with_habits(schema: Any) -> Any:
    """Objects closed, integers bounded, in all schemas inside as well."""
    if not isinstance(schema, dict):
        return schema
    out = dict(schema)
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            out[key] = {name: _with_habits(child) for name, child in value.items()}
        elif key in _LISTS and isinstance(value, list):
            out[key] = [_with_habits(child) for child in value]
        elif key in _SINGLE:
            out[key] = _with_habits(value)
    closed = ("additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "allOf", "anyOf", "oneOf")
    if "properties" in out and not any(key in out for key in closed):
        out["additionalProperties"] = False
    if out.get("type") == "integer" and "enum" not in out and "const" not in out:
        _bound(out, "minimum", "exclusiveMinimum", -_LARGEST_INTEGER)
        _bound(out, "maximum", "exclusiveMaximum", _LARGEST_INTEGER)
    return out


def _bound(schema: dict[str, Any], key: str, exclusive: str, limit: int) -> None:
    other = schema.get("maximum" if key == "minimum" else "minimum", 0)
    if key not in schema and exclusive not in schema and isinstance(other, int | float) and abs(other) <= abs(limit):
        schema[key] = limit


def _where(schema: Any) -> str:
    """The path of the innermost schema that cannot be used."""
    path = "$"
    definitions = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
    while True:
        for step, child in _inner(schema):
            if validate(_grammar(_with_habits({**definitions, **child} if isinstance(child, dict) else child))):
                path, schema = f"{path}.{step}", child
                break
        else:
            return path


def _inner(schema: Any) -> Iterator[tuple[str, Any]]:
    """Schemas inside a schema, with the steps that lead there."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            yield from ((f"{key}.{name}", child) for name, child in value.items())
        elif key in _LISTS and isinstance(value, list):
            yield from ((f"{key}[{i}]", child) for i, child in enumerate(value))
        elif key in _SINGLE and isinstance(value, dict):
            yield key, value
