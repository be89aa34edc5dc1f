"""Lark as llguidance gets it: within bounds, and with schemas that are read as everywhere else."""

from __future__ import annotations

import json
import re

from llamaq.errors import StructureError

from .engine import LEVELS
from .schema import translate_schema

__all__ = ["bounded_lark"]

_NO_FORCING = '\n%llguidance {"no_forcing": true}\n'
"""It keeps llguidance from writing at once what must follow, however long that is; the other kinds bound it."""

_SCHEMA = re.compile(r"%json\s*(?=\{)")
_LEVEL = re.compile(r"[:(\[]")


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
        out += [text[at : found.end()], json.dumps(translation.schema), "\n" * text.count("\n", found.end(), end)]
        levels += len(_LEVEL.findall(text, at, found.end()))
        at = end
    levels += len(_LEVEL.findall(text, at))
    if levels > LEVELS:
        raise StructureError(f"lark: {levels} rules, groups and classes exceed the limit of {LEVELS}")
    return "".join([*out, text[at:], _NO_FORCING]), tuple(notes)
