"""How a schema's text becomes llguidance's grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from llamaq.errors import StructureError
from llamaq.structure.engine import validate

from .constraints import grammar_of
from .keywords import schemas_inside
from .reading import fail, read_schema
from .shortest import check_lengths
from .translating import Translation

__all__ = ["Compiled", "compile_schema", "translate_schema"]

_TRIES = 100  # tries to find the place of what is wrong in a small schema
_IMPOSSIBLE = re.compile(r"Unsatisfiable schema: .* while processing \S*#/\$defs/(\d+)$")


@dataclass(frozen=True)
class Compiled:
    """``grammar`` in llguidance's form, and ``notes`` on what of the schema it does not hold a text to."""

    grammar: str
    notes: tuple[str, ...]


def compile_schema(text: str) -> Compiled:
    """Raises ``StructureError`` with the path of what cannot be used."""
    schema = read_schema(text)
    translation = Translation(schema, schema)
    check_lengths(translation.schema)
    grammar, wrong = _possible(translation)
    if wrong:
        fail(_where(schema, max(5, _TRIES - translation.size // 20)), wrong)
    return Compiled(grammar, tuple(translation.notes))


def translate_schema(text: str) -> Translation:
    """A schema in llguidance's keywords. Raises ``StructureError``."""
    schema = read_schema(text)
    translation = Translation(schema, schema)
    if "$defs" in translation.schema:
        _possible(translation)
    return translation


def _possible(translation: Translation) -> tuple[str, str | None]:
    """The grammar, and what is wrong with it. References to what nothing matches, which llguidance refuses, become
    false: then it leaves out the properties and alternatives that are optional."""
    while True:
        grammar = grammar_of(translation.schema)
        wrong = validate(grammar)
        name = wrong and _IMPOSSIBLE.match(wrong)
        if not name or not translation.leave_out(name[1]):
            return grammar, wrong


def _where(root: Any, left: int) -> str:
    """The path of the innermost schema that cannot be used, as far as the tries that are left lead."""
    path, schema = "$", root
    while True:
        for step, child in schemas_inside(schema):
            left -= 1
            if left < 0:
                return path
            if _fails(root, child, f"{path}.{step}"):
                path, schema = f"{path}.{step}", child
                break
        else:
            return path


def _fails(root: Any, schema: Any, path: str) -> bool:
    if schema is False:  # nothing matches it, but for a reason
        return False
    try:
        return validate(grammar_of(Translation(root, schema, path).schema)) is not None
    except StructureError:
        return True
