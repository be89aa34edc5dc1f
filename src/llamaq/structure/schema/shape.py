"""What a schema says in place: in itself, and through allOf, anyOf, oneOf and references, about the same value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .reading import DEEPEST, fail
from .references import REFERENCES, References

__all__ = ["LARGEST_INTEGER", "Shape", "Shapes", "is_sealed", "merged", "parts_in_place"]

LARGEST_INTEGER = 10**16 - 2  # the largest of 16 digits, as a double


@dataclass(frozen=True)
class Shape:
    """``names`` of properties in their order and of ``required`` ones; ``defines`` where some have schemas; ``others``
    where a part says what further properties there may be, ``sealed`` where none but the named may be; ``integer``
    where no other number may stand, ``low`` and ``high`` where it has such bounds, ``wide`` where one is beyond the
    largest integer; ``unions`` where there are alternatives; the number of ``patterns`` of properties."""

    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defines: bool = False
    others: bool = False
    sealed: bool = False
    integer: bool = False
    low: bool = False
    high: bool = False
    wide: bool = False
    unions: bool = False
    patterns: int = 0


def merged(shapes: Iterable[Shape]) -> Shape:
    """The shape of several parts together."""
    shapes = list(shapes)
    lists = {key: dict.fromkeys(x for shape in shapes for x in getattr(shape, key)) for key in ("names", "required")}
    flags = ("defines", "others", "sealed", "integer", "low", "high", "wide", "unions")
    return Shape(
        tuple(lists["names"]),
        tuple(lists["required"]),
        patterns=sum(shape.patterns for shape in shapes),
        **{flag: any(getattr(shape, flag) for shape in shapes) for flag in flags},
    )


def parts_in_place(schema: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Keyword, step and schema of the parts in a schema that speak of the same value; a reference stands for itself."""
    for key, value in schema.items():
        if key in ("allOf", "anyOf", "oneOf"):
            yield from ((key, f"{key}[{i}]", child) for i, child in enumerate(value))
        elif key in REFERENCES:
            yield key, key, value


def is_sealed(schema: Any) -> bool:
    """Whether a schema allows no properties but those that it or a part of it names."""
    return isinstance(schema, dict) and schema.get("unevaluatedProperties") is False


class Shapes:
    """The shapes of a schema's parts, each found once."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._found: dict[int, Shape] = {}
        self._inside: list[int] = []

    def of(self, schema: Any, path: str) -> Shape:
        """Raises ``StructureError`` where a schema is made of itself. From outside a sealed part is one that says
        which other properties there may be: none."""
        shape = self.inside(schema, path)
        return replace(shape, others=True) if is_sealed(schema) else shape

    def inside(self, schema: Any, path: str) -> Shape:
        """The same as its own parts see it."""
        if not isinstance(schema, dict):
            return Shape()
        if id(schema) not in self._found:
            if id(schema) in self._inside:
                fail(path, "it is made of itself, so it says nothing")
            if len(self._inside) > DEEPEST:
                fail(path, f"it is made of parts more than {DEEPEST} deep")
            self._inside.append(id(schema))
            parts = [self.own(schema, path)]
            for key, step, child in parts_in_place(schema):
                target = self._references.target(schema, key, path) if key in REFERENCES else (child, f"{path}.{step}")
                parts.append(self.of(*target))
            self._inside.pop()
            self._found[id(schema)] = merged(parts)
        return self._found[id(schema)]

    def own(self, schema: dict[str, Any], path: str) -> Shape:
        """The shape without the parts inside; parts under a condition, which are not enforced, leave their names."""
        perhaps = [name for step, child in _conditions(schema) for name in self.of(child, f"{path}.{step}").names]
        types = schema.get("type")
        types = types if isinstance(types, list) else [types]
        listed = "enum" in schema or "const" in schema
        low, high = _bounds(schema, "minimum", "exclusiveMinimum"), _bounds(schema, "maximum", "exclusiveMaximum")
        return Shape(
            tuple(dict.fromkeys((*schema.get("properties", ()), *perhaps))),
            tuple(dict.fromkeys(schema.get("required", ()))),
            defines="properties" in schema,
            others=(
                any(key in schema for key in ("additionalProperties", "patternProperties"))
                or ("propertyNames" in schema and "properties" not in schema)
                or schema.get("unevaluatedProperties", False) is not False
            ),
            integer="integer" in types and "number" not in types,
            low=listed or bool(low),
            high=listed or bool(high),
            wide=any(abs(bound) > LARGEST_INTEGER for bound in low + high),
            unions="anyOf" in schema or "oneOf" in schema,
            patterns=len(schema.get("patternProperties", ())),
        )


def _conditions(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Step and schema of the parts that speak of the same value under a condition."""
    yield from ((key, schema[key]) for key in ("if", "then", "else") if key in schema)
    for key in ("dependentSchemas", "dependencies"):
        yield from ((f"{key}.{name}", child) for name, child in schema.get(key, {}).items() if isinstance(child, dict))


def _bounds(schema: dict[str, Any], *keys: str) -> list[float]:
    return [schema[key] for key in keys if key in schema and not isinstance(schema[key], bool)]
