"""The ways to say what the output must look like."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from llamaq.boundary.arguments import one_of, shown, text
from llamaq.errors import StructureError

from .engine import LONGEST, llguidance, validate
from .gbnf import gbnf_to_lark
from .gbnf.parse import TokenId
from .lark import bounded_lark
from .schema import compile_schema, schema_text

__all__ = ["Structure", "gbnf", "json_object", "json_schema", "lark", "regex"]


logger = logging.getLogger("llamaq")

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Structure:
    """What the output must match; made by ``json_schema``, ``json_object``, ``regex``, ``lark`` or ``gbnf``, which
    check ``text``. It belongs to no model. Where there is ``after``, such as ("</think>",), the output is free until it
    has written these marks, one after another, and what follows must match."""

    kind: Literal["json_schema", "regex", "lark", "gbnf"]
    text: str
    after: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(init=False, compare=False, repr=False, default=())
    """What of a JSON schema the output is not held to, each with its place; the log warns of it too."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("json_schema", "regex", "lark", "gbnf"))
        text("text", self.text)
        if len(self.text) > LONGEST:
            raise StructureError(f"{self.kind}: {len(self.text)} characters exceed the limit of {LONGEST}")
        if not self.text.isascii() and _SURROGATE.search(self.text):
            raise StructureError(f"{self.kind}: half a surrogate pair is no character")
        if self.kind == "json_schema":
            notes = compile_schema(self.text).notes
        else:
            if wrong := validate(self.compiled()):
                raise StructureError(f"{self.kind}: {wrong}")
            notes = bounded_lark(self.text)[1] if self.kind == "lark" else ()
        object.__setattr__(self, "notes", notes)
        for note in notes:
            logger.warning("JSON schema: %s", note)

    def following(self, *marks: str) -> Structure:
        """The same, after free text that ends with a mark; of several, each comes after free text of its own. Nothing
        is compiled anew."""
        for mark in marks:
            if not text("mark", mark) or _SURROGATE.search(mark):
                raise ValueError(f"mark must be characters that end a text, got {shown(mark)}")
        found = copy(self)
        object.__setattr__(found, "after", marks)
        return found

    @property
    def has_schema(self) -> bool:
        """Whether a JSON schema is part of it."""
        return self.kind == "json_schema" or (self.kind == "lark" and "%json" in self.text)

    def compiled(self, token_id: TokenId | None = None) -> str:
        """The grammar in llguidance's form; ``token_id`` finds the tokens that a GBNF grammar names by their text."""
        matcher = llguidance().LLMatcher
        grammar: str
        if self.kind == "json_schema":
            return compile_schema(self.text).grammar
        if self.kind == "regex":
            grammar = matcher.grammar_from_regex(self.text)
        elif self.kind == "gbnf":
            grammar = matcher.grammar_from_lark(gbnf_to_lark(self.text, token_id))
        else:
            grammar = matcher.grammar_from_lark(bounded_lark(self.text)[0])
        return grammar


def json_schema(schema: str | bool | Mapping[str, Any]) -> Structure:
    """JSON that a schema accepts: its text, or what ``json.loads`` makes of it. As in llama.cpp, properties come in
    the schema's order, an object with ``properties`` has no others unless the schema speaks of others, and an integer
    has at most 16 digits. What is not enforced stands in ``notes``. Raises ``StructureError`` with the path of what
    cannot be used."""
    return Structure("json_schema", schema if isinstance(schema, str) else schema_text(schema))


def json_object() -> Structure:
    """Any JSON object."""
    return Structure("json_schema", '{"type": "object"}')


def regex(pattern: str) -> Structure:
    """Text that matches a whole regular expression of Rust's ``regex`` crate, without anchors or look-around. Raises
    ``StructureError``."""
    return Structure("regex", text("pattern", pattern))


def lark(grammar: str) -> Structure:
    """A grammar in the Lark dialect of llguidance, which begins with the rule ``start``. Raises ``StructureError``."""
    return Structure("lark", text("grammar", grammar))


def gbnf(grammar: str) -> Structure:
    """A grammar in llama.cpp's notation, which begins with the rule ``root``. Raises ``StructureError`` with line and
    rule of what cannot be used."""
    return Structure("gbnf", text("grammar", grammar))
