"""Whether no value can match two schemas: then "exactly one of them" is the same as "one of them"."""

from __future__ import annotations

import json
from typing import Any

from .keywords import TYPES
from .references import REFERENCES, References

__all__ = ["Disjoint"]

_DEEPEST = 8
_BUDGET = 20_000  # pairs to look at


class Disjoint:
    """Answers for the schemas of one text; no where it cannot be seen."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._left = _BUDGET

    def all(self, schemas: list[Any], path: str) -> bool:
        """Whether each two of them are disjoint."""
        schemas = [self._followed(schema, path) for schema in schemas]
        return self._told_apart(schemas, path) or all(
            self.two(a, b, path) for i, a in enumerate(schemas) for b in schemas[i + 1 :]
        )

    def _told_apart(self, schemas: list[Any], path: str) -> bool:
        """Whether a property that all objects require has values of its own in each."""
        required = [set(_objects(schema).get("required", ())) for schema in schemas]
        for name in set.intersection(*required):
            properties = (self._followed(schema.get("properties", {}).get(name), path) for schema in schemas)
            values = [_values(found) if isinstance(found, dict) else None for found in properties]
            listed = [value for some in values for value in some or ()]
            if None not in values and len(listed) == len(set(listed)):
                return True
        return False

    def two(self, a: Any, b: Any, path: str, deep: int = 0) -> bool:
        """Whether these two are disjoint."""
        self._left -= 1
        a, b = self._followed(a, path), self._followed(b, path)
        if a is False or b is False:
            return True
        if not isinstance(a, dict) or not isinstance(b, dict) or deep > _DEEPEST or self._left < 0:
            return False
        for one, other in ((a, b), (b, a)):
            alternatives = one.get("anyOf", one.get("oneOf"))
            if alternatives is not None and all(self.two(item, other, path, deep + 1) for item in alternatives):
                return True
            if any(self.two(item, other, path, deep + 1) for item in one.get("allOf", ())):
                return True
        types = _types(a) & _types(b)
        values = _values(a), _values(b)
        if not types or (values[0] is not None and values[1] is not None and not values[0] & values[1]):
            return True
        return types == {"object"} and self._property(a, b, path, deep)

    def _property(self, a: dict[str, Any], b: dict[str, Any], path: str, deep: int) -> bool:
        """Whether a property that one of them requires has disjoint schemas in both."""
        for name in {**dict.fromkeys(a.get("required", ())), **dict.fromkeys(b.get("required", ()))}:
            here, there = (s.get("properties", {}).get(name, self._other(s)) for s in (a, b))
            if self.two(here, there, path, deep + 1):
                return True
        return False

    @staticmethod
    def _other(schema: dict[str, Any]) -> Any:
        return True if "patternProperties" in schema else schema.get("additionalProperties", True)

    def _followed(self, schema: Any, path: str) -> Any:
        for _ in range(_DEEPEST):
            keys = [key for key in REFERENCES if isinstance(schema, dict) and key in schema]
            if not keys:
                break
            schema = self._references.target(schema, keys[0], path)[0]
        return schema


def _objects(schema: Any) -> dict[str, Any]:
    """A schema that only objects match, and nothing in place of any other."""
    return schema if isinstance(schema, dict) and _types(schema) == {"object"} else {}


def _types(schema: dict[str, Any]) -> set[str]:
    if "const" in schema or "enum" in schema:
        return {_type(value) for value in schema.get("enum", [schema.get("const")])}
    named = schema.get("type", list(TYPES))
    types = set(named if isinstance(named, list) else [named])
    return types | {"integer"} if "number" in types else types


def _type(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object", type(None): "null"}
    if isinstance(value, float) and value == int(value):
        return "integer"
    return kinds.get(type(value), "number")


def _values(schema: dict[str, Any]) -> set[str] | None:
    """The texts of the values that are allowed, None where they are not listed."""
    if "const" not in schema and "enum" not in schema:
        return None
    values = schema.get("enum", [schema.get("const")])
    return {json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True) for value in values}
