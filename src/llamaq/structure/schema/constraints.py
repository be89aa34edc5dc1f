"""A schema's own keywords, without the parts that are schemas of the same value."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any, Protocol

from llamaq.structure.engine import llguidance, validate

from .bounds import bounded
from .keywords import ANNOTATIONS
from .lookaround import without_lookaround
from .names import names_matching
from .reading import fail

__all__ = ["WHITESPACE", "Constraints", "grammar_of"]

WHITESPACE = r"[ ]|\n{1,2}[ \t]{0,20}"  # llama.cpp's; without a limit a model may write spaces for ever
_EXACT = 2**53  # integers beyond it are not all doubles, which llguidance reads numbers as
_LARGEST_INTEGER = 2**63 - 1024  # the largest double of a signed 64-bit integer
_LARGEST_NUMBER = 1e15  # the largest bound of numbers that are not integers
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def grammar_of(schema: dict[str, Any]) -> str:
    """A schema in llguidance's own form."""
    grammar: str = llguidance().LLMatcher.grammar_from_json_schema(
        json.dumps(schema), overrides={"whitespace_pattern": WHITESPACE, "lenient": False}
    )
    return grammar


@lru_cache(maxsize=1000)
def _wrong(text: str) -> str | None:
    """What llguidance says against a schema."""
    return validate(grammar_of(json.loads(text)))


def _usable(**schema: Any) -> bool:
    return _wrong(json.dumps(schema)) is None


class Whole(Protocol):
    """What constraints ask of the translation of the schema that they are part of."""

    names: tuple[str, ...]

    def whole(self, schema: Any, path: str) -> Any: ...
    def followed(self, schema: Any, path: str) -> Any: ...
    def note(self, path: str, what: str) -> None: ...


class Constraints:
    """The constraints of one schema. What llguidance cannot hold a text to is left out, with a note."""

    def __init__(self, schema: dict[str, Any], path: str, translation: Whole) -> None:
        self._schema, self._path, self._translation = schema, path, translation

    def translated(self) -> dict[str, Any]:
        """The same in llguidance's keywords."""
        out: dict[str, Any] = {key: self._schema[key] for key in ("type", "enum", "const") if key in self._schema}
        self._check_exact([*out.get("enum", ()), out.get("const")])
        out.update({key: int(self._schema[key]) for key in _COUNTS if key in self._schema})
        self._numbers(out)
        self._strings(out)
        self._arrays(out)
        self._objects(out)
        return out

    def _note(self, what: str) -> None:
        self._translation.note(self._path, what)

    def _whole(self, schema: Any, step: str) -> Any:
        return self._translation.whole(schema, f"{self._path}.{step}")

    def _check_exact(self, values: list[Any]) -> None:
        """Raises ``StructureError`` for a constant that llguidance would round, or overflow at."""
        while values:
            value = values.pop()
            if isinstance(value, int | float) and (abs(value) > _LARGEST_INTEGER or float(value) != value):
                fail(self._path, f"such a number cannot be a constant, got {value}")
            values += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()

    def _numbers(self, out: dict[str, Any]) -> None:
        schema = self._schema
        if "multipleOf" in schema:
            out["multipleOf"] = schema["multipleOf"]
        limits: dict[str, Any] = {}
        for key, exclusive, towards in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
            if schema.get(exclusive) is True and key in schema:  # draft 4 says it so
                limits[exclusive] = schema[key]
            elif key in schema:
                limits[key] = schema[key]
            if exclusive in schema and not isinstance(schema[exclusive], bool):
                limits[exclusive] = schema[exclusive]
            for name in (key, exclusive):
                if name in limits:
                    limits[name] = self._bound(name, limits[name], towards)
        out.update(limits if self._integers() else bounded(limits))

    def _integers(self) -> bool:
        """Whether no number but integers may stand."""
        types = self._schema.get("type")
        return types == "integer" or (isinstance(types, list) and "number" not in types)

    def _bound(self, key: str, bound: float, towards: int) -> float:
        """A bound that llguidance reads exactly, moved inwards where it would not."""
        if abs(bound) <= _EXACT:
            return bound
        if self._integers():
            limit: float = _LARGEST_INTEGER
        else:
            limit = _LARGEST_NUMBER
        nearest = min(limit, max(-limit, float(bound)))
        if nearest < bound if towards > 0 else nearest > bound:  # it was rounded or cut outwards
            if abs(bound) > limit:
                fail(self._path, f"{key} {bound:.17g} is beyond what can be bounded, {int(limit)}")
            nearest = math.nextafter(nearest, towards * math.inf)
        if nearest != bound:
            self._note(f"{key} is {int(nearest)}, not {bound}: numbers beyond are not written")
        return int(nearest)

    def _strings(self, out: dict[str, Any]) -> None:
        schema = self._schema
        if "format" in schema:
            if _usable(type="string", format=schema["format"]):
                out["format"] = schema["format"]
            else:
                self._note(f"format {schema['format'][:50]!r} is not enforced")
        if "pattern" in schema:
            out["pattern"] = self._pattern(schema["pattern"], "pattern")

    def _pattern(self, pattern: str, step: str) -> str:
        """The pattern, without look-around if need be. Raises ``StructureError`` where it cannot be used."""
        wrong = _wrong(json.dumps({"type": "string", "pattern": pattern}))
        if wrong is None:
            return pattern
        simpler = without_lookaround(pattern)
        if simpler == pattern or not _usable(type="string", pattern=simpler):
            fail(f"{self._path}.{step}", wrong)
        self._note(f"{step}: look-around in {pattern[:100]!r} is not enforced")
        return simpler

    def _arrays(self, out: dict[str, Any]) -> None:
        schema = self._schema
        first, others = schema.get("prefixItems"), schema.get("items")
        if isinstance(others, list):  # drafts before 2020-12 have a list
            first, others = others, schema.get("additionalItems")
        if first is not None:
            out["prefixItems"] = [self._whole(child, f"prefixItems[{i}]") for i, child in enumerate(first)]
        if others is not None:
            out["items"] = self._whole(others, "items")
        if schema.get("uniqueItems") and schema.get("maxItems", 2) > 1:
            self._note("uniqueItems is not enforced")

    def _objects(self, out: dict[str, Any]) -> None:
        schema = self._schema
        for key in ("properties", "patternProperties"):
            if key in schema:
                out[key] = {name: self._whole(child, f"{key}.{name}") for name, child in schema[key].items()}
        if "additionalProperties" in schema:
            out["additionalProperties"] = self._whole(schema["additionalProperties"], "additionalProperties")
        if "patternProperties" in out:
            self._patterns(out)
        if "required" in schema:
            out["required"] = list(dict.fromkeys(schema["required"]))
        if "propertyNames" in schema:
            self._property_names(out)
        self._property_counts(out)

    def _patterns(self, out: dict[str, Any]) -> None:
        """Without look-around a pattern may match the names of others: it gives way, and its names may be any."""
        patterns = {p: self._pattern(p, "patternProperties") == p for p in out["patternProperties"]}
        wider = [child for p, child in out["patternProperties"].items() if not patterns[p]]
        if wider:
            out["patternProperties"] = {p: child for p, child in out["patternProperties"].items() if patterns[p]}
            alone = len(wider) == 1 and out.get("additionalProperties") is False
            out["additionalProperties"] = wider[0] if alone else True
        self._listed(out)

    def _listed(self, out: dict[str, Any]) -> None:
        """A pattern that only names of the schema match becomes properties: beside those that are named, llguidance
        would begin another property of it, and find that there is none."""
        known = self._translation.names
        for pattern, child in list(out["patternProperties"].items()):
            names = names_matching(pattern, known)
            if names is None:
                continue
            del out["patternProperties"][pattern]
            properties = out.setdefault("properties", {})
            for name in names:
                properties[name] = {"allOf": [properties[name], child]} if name in properties else child
        if not out["patternProperties"]:
            del out["patternProperties"]

    def _property_names(self, out: dict[str, Any]) -> None:
        """Names that are listed become properties, names of a pattern ``patternProperties``."""
        names = self._translation.followed(self._schema["propertyNames"], f"{self._path}.propertyNames")
        if names is False:
            out["maxProperties"] = 0
            return
        said = {} if names is True else {key: value for key, value in names.items() if key not in ANNOTATIONS}
        types = said.pop("type", "string")
        if not said and "string" in types:
            return
        if not said.keys() <= {"enum", "const", "pattern"} or len(said) > 1 or "string" not in types:
            self._note("propertyNames is not enforced")
        elif "properties" in out or "patternProperties" in out:
            self._note("propertyNames beside properties is not enforced")
        else:
            value = out.get("additionalProperties", True)
            if "pattern" in said:
                out["patternProperties"] = {self._pattern(said["pattern"], "propertyNames.pattern"): value}
                self._listed(out)
            else:
                listed = said.get("enum", [said.get("const")])
                out["properties"] = {name: value for name in listed if isinstance(name, str)}
            out["additionalProperties"] = False

    def _property_counts(self, out: dict[str, Any]) -> None:
        low, high = out.get("minProperties", 0), out.get("maxProperties")
        if not low and high is None:
            return
        names = {"properties": dict.fromkeys(out.get("properties", ()), True), "required": out.get("required", [])}
        closed = out.get("additionalProperties", "properties" not in out) is not False
        shown = {key: out[key] for key in ("minProperties", "maxProperties") if key in out}
        if not _usable(type="object", **names, additionalProperties=closed, **shown):
            for key in shown:
                del out[key]
                self._note(f"{key} is not enforced")
        elif low > max(1, len(names["required"])) and closed:
            self._note("minProperties counts names that stand twice")
