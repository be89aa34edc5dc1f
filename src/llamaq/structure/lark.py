"""Lark as llguidance gets it: within bounds, and with schemas that are read as everywhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llamaq.errors import StructureError

from .engine import LEVELS
from .schema import WHITESPACE, schema_text, translate_schema

__all__ = ["bounded_lark", "json_term", "literal"]

_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'
"""It keeps llguidance from writing at once what must follow, however long that is; the other kinds bound it."""

_OPTIONS = "x-guidance"
"""llguidance's key for how JSON is written, such as with which white space."""

_SCHEMA = re.compile(r"%json\s*(?=\{)")
_LEVEL = re.compile(r"[:(\[]")


def json_term(schema: Mapping[str, Any]) -> str:
    """A term for JSON that a schema accepts, written as ``json_schema`` has it. Raises ``StructureError``."""
    return f"%json {schema_text({**schema, _OPTIONS: {'whitespace_pattern': WHITESPACE}})}"


def literal(text: str) -> str:
    """A term for this text; ``%`` is escaped, so that it begins no schema."""
    return json.dumps(text).replace("%", "\\u0025")


def bounded_lark(text: str) -> tuple[str, tuple[str, ...]]:
    """The grammar, and what of its schemas is not enforced. Raises ``StructureError``."""
    out: list[str] = []
    notes: dict[str, None] = {}
    at = levels = 0
    for found in _SCHEMA.finditer(text):
        if found.start() < at:
            continue
        try:
            end = json.JSONDecoder().raw_decode(text, found.end())[1]
        except (ValueError, RecursionError):  # llguidance has more to say about it
            continue
        translation = translate_schema(text[found.end() : end])
        notes.update(translation.notes)
        schema = translation.schema
        if (own := json.loads(text[found.end() : end]).get(_OPTIONS)) is not None:
            schema = {**schema, _OPTIONS: own}
        out += [text[at : found.end()], json.dumps(schema), "\n" * text.count("\n", found.end(), end)]
        levels += len(_LEVEL.findall(text, at, found.end()))
        at = end
    levels += len(_LEVEL.findall(text, at))
    if levels > LEVELS:
        raise StructureError(f"lark: {levels} rules, groups and classes exceed the limit of {LEVELS}")
    return "".join([*out, text[at:], _NO_FORCING]), tuple(notes)
