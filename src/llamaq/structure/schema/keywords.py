"""What may stand at each keyword of draft 2020-12, and of the drafts before it where they differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from .reading import fail

__all__ = ["ANNOTATIONS", "LISTS", "MAPS", "SINGLE", "TYPES", "check_keywords", "schemas_inside"]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("prefixItems", "allOf", "anyOf", "oneOf")
SINGLE = ("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains",
          "propertyNames", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
ANNOTATIONS = frozenset(
    ("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$comment", "$defs",
     "definitions", "title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples", "example",
     "contentEncoding", "contentMediaType", "contentSchema", "discriminator", "nullable")
)  # fmt: skip


def check_keywords(schema: Any, path: str, checked: set[int]) -> None:
    """Raises ``StructureError`` where the value of a keyword is not what it must be, in a schema or one inside it.
    ``checked`` keeps the identities of those that were looked at."""
    waiting = [(schema, path)]
    while waiting:
        schema, path = waiting.pop()
        if not isinstance(schema, dict) or id(schema) in checked:
            continue
        checked.add(id(schema))
        for key, value in schema.items():
            if key in _CHECKS:
                right, expected = _CHECKS[key]
                if not right(value):
                    fail(path, f"{key} must be {expected}, got {json.dumps(value)[:60]}")
        waiting += [(child, f"{path}.{step}") for step, child in schemas_inside(schema)]


def schemas_inside(schema: Any) -> Iterator[tuple[str, Any]]:
    """Schemas right inside a schema, with the steps that lead there."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in (*MAPS, "dependencies") and isinstance(value, dict):
            yield from ((f"{key}.{name}", child) for name, child in value.items() if isinstance(child, dict | bool))
        elif (key in LISTS or key == "items") and isinstance(value, list):
            yield from ((f"{key}[{i}]", child) for i, child in enumerate(value))
        elif key in SINGLE:
            yield key, value


def _schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _schemas(value: Any) -> bool:
    return isinstance(value, list) and all(map(_schema, value))


def _map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_schema, value.values()))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _number(value) and value >= 0 and value == int(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_type, f"one or some of {', '.join(TYPES)}"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "a list of values"),
    "items": (lambda value: _schema(value) or _schemas(value), "a schema"),
    "required": (_texts, "a list of names"),
    "multipleOf": (lambda value: _number(value) and value > 0, "a positive number"),
    "dependencies": (lambda value: isinstance(value, dict), "an object"),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
}
for _names, _right, _expected in (
    (MAPS, _map, "an object of schemas"),
    (("allOf", "anyOf", "oneOf"), lambda value: bool(value) and _schemas(value), "a list of schemas"),
    (("prefixItems",), _schemas, "a list of schemas"),
    (SINGLE[1:], _schema, "a schema"),
    (("pattern", "format", "$ref", "$dynamicRef", "$recursiveRef", "$id", "$anchor"), _text, "a text"),
    (("minimum", "maximum"), _number, "a number"),
    (("exclusiveMinimum", "exclusiveMaximum"), lambda v: isinstance(v, bool) or _number(v), "a number"),
    (("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains",
      "maxContains"), _count, "a whole number of at least 0"),
):  # fmt: skip
    _CHECKS.update(dict.fromkeys(_names, (_right, _expected)))
