"""A schema in the keywords that llguidance has, with objects closed and integers bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llamaq.structure.engine import printable

from .constraints import Constraints
from .disjoint import Disjoint
from .keywords import ANNOTATIONS
from .names import names_in
from .negation import negated
from .reading import fail
from .references import REFERENCES, References
from .shape import LARGEST_INTEGER, Shape, Shapes, is_sealed, merged, parts_in_place

__all__ = ["Translation"]

_LARGEST = 10_000  # schemas, names of closed objects counting a twentieth
_MOST_PATTERNS = 30  # patterns for properties of a value: llguidance compares each two of them
_PARTS = ("allOf", "anyOf", "oneOf", *REFERENCES)
_NOT_ENFORCED = ("if", "contains", "minContains", "maxContains", "dependentRequired", "dependentSchemas",
                 "dependencies")  # fmt: skip


class Translation:
    """Of one schema: ``schema`` for llguidance, ``notes`` on what it does not hold a text to, and the ``size`` of both.

    An object with ``properties`` is closed: it has no others, unless something says so. Parts that speak of the same
    value (allOf, anyOf, oneOf, references beside other keywords) are closed together, at each alternative, against the
    names of all parts but other alternatives. A schema that is referred to is translated once for each ``outside``.
    """

    def __init__(self, root: Any, schema: Any, path: str = "$") -> None:
        self.names = names_in(root)
        self._references = References(root)
        self._shapes = Shapes(self._references)
        self._disjoint = Disjoint(self._references)
        self._names: dict[tuple[int, Shape | None], str] = {}
        self._made: dict[str, list[dict[str, Any]]] = {}  # references to each definition
        self._waiting: list[tuple[str, Any, str, Shape | None]] = []
        self.size = 0
        self.notes: dict[str, None] = {}
        found = self._place(schema, path, Shape())
        definitions = {}
        while self._waiting:
            name, *target = self._waiting.pop()
            definitions[name] = self._place(*target)
        self.schema: dict[str, Any] = found if isinstance(found, dict) else {"allOf": [found]}
        if definitions:
            self.schema = {**self.schema, "$defs": definitions}

    def whole(self, schema: Any, path: str) -> Any:
        """The translation of a schema that stands alone."""
        return self._place(schema, path, Shape())

    def note(self, path: str, what: str) -> None:
        """Tells what is not enforced."""
        self.notes[printable(f"{path if len(path) <= 100 else '...' + path[-97:]}: {what}")] = None

    def leave_out(self, name: str) -> bool:
        """Makes references to a definition false, since nothing matches it; whether there were any."""
        made = self._made.pop(name, [])
        for reference in made:
            reference.clear()
            reference["allOf"] = [False]
        return bool(made)

    def followed(self, schema: Any, path: str) -> Any:
        """What a schema that is nothing but references leads to."""
        for _ in range(len(self._names) + 10):
            keys = [key for key in schema if key not in ANNOTATIONS] if isinstance(schema, dict) else []
            if len(keys) != 1 or keys[0] not in REFERENCES:
                break
            schema, path = self._references.target(schema, keys[0], path)
        return schema

    def _place(self, schema: Any, path: str, outside: Shape | None) -> Any:
        """A schema, closed together with what is said outside of it; left open where ``outside`` is None."""
        self._grow(path, 1)
        if not isinstance(schema, dict):
            return schema
        keys = [key for key in schema if key not in ANNOTATIONS]
        if len(keys) == 1 and keys[0] in REFERENCES:
            return self._reference(schema, keys[0], path, outside)
        if keys == ["allOf"] and len(schema["allOf"]) == 1:
            return self._place(schema["allOf"][0], f"{path}.allOf[0]", outside)
        shape = self._shapes.inside(schema, path)
        if is_sealed(schema):
            outside = Shape(sealed=True)
        own = Constraints(schema, path, self).translated()
        if shape.patterns > _MOST_PATTERNS:
            fail(path, f"{shape.patterns} patterns of properties exceed the limit of {_MOST_PATTERNS}")
        self._grow(path, shape.patterns**2 // 3)
        parts = self._parts(schema, path, outside) + self._negations(schema, path)
        first = next((key for key in keys if key == "properties" or key in _PARTS), None)
        if parts and first != "properties" and "properties" in own:
            own, parts = {}, [*parts, own]
        out = {**own, "allOf": parts} if parts else own
        if outside is not None and not shape.unions:
            self._close(out, merged([outside, shape]), path)
        return out

    def _parts(self, schema: dict[str, Any], path: str, outside: Shape | None) -> list[Any]:
        """The parts that speak of the same value, alternatives as one part."""
        found = []
        for key, step, child in parts_in_place(schema):
            target = self._references.target(schema, key, path) if key in REFERENCES else (child, f"{path}.{step}")
            found.append((key, child, f"{path}.{step}", self._shapes.of(*target)))
        own = self._shapes.own(schema, path)
        parts: list[Any] = []
        unions: dict[str, list[Any]] = {}
        around: dict[str, Shape | None] = {}
        for i, (key, child, where, shape) in enumerate(found):
            union = key in ("anyOf", "oneOf")
            if not (union and key in around):
                around[key] = None
                if outside is not None and (union or shape.unions):
                    self._grow(path, len(found) // 20)
                    rest = [s for j, (k, _, _, s) in enumerate(found) if j != i and not (union and k == key)]
                    around[key] = replace(merged([outside, own, *rest]), unions=False, patterns=0)
            if key in REFERENCES:
                parts.append(self._reference(schema, key, path, around[key]))
            elif not union:
                parts.append(self._place(child, where, around[key]))
            else:
                if key not in unions:
                    unions[key] = []
                    parts.append({"anyOf": unions[key]})
                unions[key].append(self._place(child, where, around[key]))
        if "oneOf" in unions and not self._disjoint.all(schema["oneOf"], path):
            self.note(path, "oneOf is read as anyOf, since a value may match more than one of its schemas")
        return parts

    def _negations(self, schema: dict[str, Any], path: str) -> list[Any]:
        """``not``, where it can be said otherwise, and notes on what else llguidance has no keywords for."""
        for key in _NOT_ENFORCED:
            if key in schema:
                self.note(path, f"{key} is not enforced")
        for key in ("unevaluatedProperties", "unevaluatedItems"):
            if key in schema and schema[key] is not True and (key, schema[key]) != ("unevaluatedProperties", False):
                self.note(path, f"{key} is not enforced")
        other = negated(schema["not"]) if "not" in schema else True
        if other is None:
            self.note(path, "not is not enforced")
        return [] if other is None or other is True else [other]

    def _reference(self, schema: dict[str, Any], key: str, path: str, outside: Shape | None) -> dict[str, Any]:
        target, where = self._references.target(schema, key, path)
        self._shapes.of(target, where)  # it is not made of itself
        known = id(target), outside
        if isinstance(target, bool):
            return {"allOf": [target]}
        if known not in self._names:
            self._names[known] = str(len(self._names))
            self._waiting.append((self._names[known], target, where, outside))
        name = self._names[known]
        made = {"$ref": f"#/$defs/{name}"}
        self._made.setdefault(name, []).append(made)
        return made

    def _close(self, out: dict[str, Any], shape: Shape, path: str) -> None:
        """llama.cpp's habits: no properties but those that are named, no integers of more than 16 digits."""
        if shape.integer and not shape.wide:
            if not shape.low:
                out["minimum"] = -LARGEST_INTEGER
            if not shape.high:
                out["maximum"] = LARGEST_INTEGER
        if shape.sealed and shape.others:
            self.note(path, "unevaluatedProperties is not enforced")
        elif shape.sealed or (shape.defines and not shape.others):
            listed = shape.names if shape.sealed else (*shape.names, *shape.required)
            self._grow(path, len(listed) // 20)
            names: dict[str, Any] = dict.fromkeys(listed, True)
            if "allOf" in out:
                out["allOf"].append({"properties": names, "additionalProperties": False})
            else:
                out["properties"] = {
                    **out.get("properties", {}),
                    **{n: True for n in names if n not in out.get("properties", {})},
                }
                out["additionalProperties"] = False

    def _grow(self, path: str, size: int) -> None:
        self.size += size
        if self.size > _LARGEST:
            fail(path, f"it and what it refers to are more than {_LARGEST} schemas")
