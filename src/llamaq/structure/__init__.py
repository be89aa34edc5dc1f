"""Structured output: text that follows a JSON schema, a regular expression or a grammar, through llguidance."""

from __future__ import annotations

from .kinds import Structure, gbnf, json_object, json_schema, lark, regex
from .lark import json_term, literal
from .matcher import Matcher
from .vocabulary import mark_id

__all__ = [
    "Matcher",
    "Structure",
    "gbnf",
    "json_object",
    "json_schema",
    "json_term",
    "lark",
    "literal",
    "mark_id",
    "regex",
]
