"""A schema's text as JSON says it, no more: each name once, numbers that are numbers, not too deep."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from llamaq.errors import StructureError
from llamaq.structure.engine import printable

__all__ = ["DEEPEST", "fail", "read_schema", "schema_text"]

DEEPEST = 60
_SURROGATE = re.compile("[\ud800-\udfff]")


def fail(path: str, wrong: str) -> NoReturn:
    """Raises ``StructureError`` for a place in a schema."""
    path = path if len(path) <= 200 else f"{path[:100]} ... {path[-80:]}"
    raise StructureError(printable(f"JSON schema: {path}: {wrong[:500]}"))


def schema_text(schema: Any) -> str:
    """The text of what ``json.loads`` makes of a schema, or of mappings like it. Raises ``StructureError``."""
    try:
        return json.dumps(schema, default=_plain)
    except (TypeError, ValueError) as error:
        raise StructureError(f"JSON schema: it is no JSON ({error})") from None
    except RecursionError:
        raise StructureError(f"JSON schema: it is nested deeper than {DEEPEST}") from None


def read_schema(text: str) -> Any:
    """The schema that a text holds. Raises ``StructureError`` where it is no JSON, no schema or too deep."""
    try:
        schema = json.loads(
            text, parse_constant=_no_number, parse_int=_integer, parse_float=_float, object_pairs_hook=_object
        )
    except ValueError as error:
        raise StructureError(f"JSON schema: the text is no JSON ({error})") from None
    except RecursionError:
        raise StructureError(f"JSON schema: it is nested deeper than {DEEPEST}") from None
    if not isinstance(schema, dict | bool):
        raise StructureError(f"JSON schema: $ must be an object or a boolean, got {json.dumps(schema)[:50]}")
    _check(schema)
    return schema


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is none of its values")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _integer(text: str) -> int:
    if len(text) > 300:
        raise ValueError(f"{text[:20]}... is larger than any number")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is larger than any number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {json.dumps(twice[:50])} stands twice in an object")
    return found


def _check(schema: Any) -> None:
    waiting = [(schema, "$", 1)]
    while waiting:
        value, path, depth = waiting.pop()
        if depth > DEEPEST:
            fail(path, f"it is nested deeper than {DEEPEST}")
        if isinstance(value, str) and _SURROGATE.search(value):
            fail(path, "half a surrogate pair is no character")
        if isinstance(value, dict):
            waiting += [(child, f"{path}.{key}", depth + 1) for key, child in value.items()]
            waiting += [(key, path, depth) for key in value]
        elif isinstance(value, list):
            waiting += [(child, f"{path}[{i}]", depth + 1) for i, child in enumerate(value)]
