"""The schema of what another does not match, for the few kinds where llguidance can hold a text to it."""

from __future__ import annotations

from typing import Any

from .keywords import ANNOTATIONS, TYPES

__all__ = ["negated"]


def negated(schema: Any) -> Any:
    """A schema, or None where there is none."""
    if isinstance(schema, bool):
        return not schema
    said = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
    if not said:
        return False
    if said.keys() == {"not"}:
        return said["not"] if isinstance(said["not"], bool) else None
    if said.keys() == {"type"}:
        return _without(said["type"] if isinstance(said["type"], list) else [said["type"]])
    if said.keys() == {"required"} and said["required"]:
        missing = [{"type": "object", "properties": {name: False}} for name in said["required"]]
        return missing[0] if len(missing) == 1 else {"anyOf": missing}
    return None


def _without(types: list[str]) -> Any:
    if "number" in types:
        types = [*types, "integer"]
    elif "integer" in types:  # the other numbers have no type
        return None
    others = [name for name in TYPES if name not in types]
    return {"type": others} if others else False
