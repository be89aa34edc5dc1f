"""How long the shortest text of a translated schema is: what leaves no choice is written at once."""

from __future__ import annotations

import json
from typing import Any

from .reading import fail

__all__ = ["check_lengths"]

_LONGEST = 100_000  # characters
_SWEEPS = 60  # sweeps over definitions that refer to each other; texts that multiply grow long in fewer


def check_lengths(schema: dict[str, Any]) -> None:
    """Raises ``StructureError`` where a text must be too long to be written."""
    definitions = schema.get("$defs", {})
    lengths = _Lengths(definitions)
    for _ in range(_SWEEPS):
        before = dict(lengths.definitions)
        for name, definition in reversed(definitions.items()):
            lengths.definitions[name] = lengths.of(definition)
        if lengths.definitions == before:
            break
    lengths.of(schema)


class _Lengths:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = dict.fromkeys(definitions, 1)

    def of(self, schema: Any) -> int:
        """A lower bound, in characters."""
        if not isinstance(schema, dict):
            return 1
        lengths = [self.of(part) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            lengths.append(self.definitions[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            lengths.append(min(self.of(part) for part in schema["anyOf"]))
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        if values:
            lengths.append(min(len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) for value in values))
        lengths.append(self._own(schema))
        if max(lengths) > _LONGEST:
            fail("$", f"a text that matches a part of it has more than {_LONGEST} characters")
        return max(lengths)

    def _own(self, schema: dict[str, Any]) -> int:
        array, named = self._array(schema), self._object(schema)
        types = schema.get("type")
        lengths: dict[str, int] = {"string": schema.get("minLength", 0), "array": array, "object": named}
        return min(lengths.get(name, 1) for name in (types if isinstance(types, list) else [str(types)]))

    def _array(self, schema: dict[str, Any]) -> int:
        first = [self.of(item) for item in schema.get("prefixItems", ())]
        other = self.of(schema.get("items", True))
        few: int = schema.get("minItems", 0)
        return sum(first[:few]) + other * max(0, few - len(first)) + few

    def _object(self, schema: dict[str, Any]) -> int:
        found = {name: self.of(child) for name, child in schema.get("properties", {}).items()}
        for child in (*schema.get("patternProperties", {}).values(), schema.get("additionalProperties", True)):
            self.of(child)
        few: int = schema.get("minProperties", 0)
        return sum(len(name) + 4 + found.get(name, 1) for name in schema.get("required", ())) + 5 * few
