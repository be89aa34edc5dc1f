"""Structured output: text that follows a JSON schema, a regular expression or a grammar, through llguidance."""

from __future__ import annotations

from .kinds import Structure, gbnf, json_object, json_schema, lark, regex
from .matcher import Matcher

__all__ = ["Matcher", "Structure", "gbnf", "json_object", "json_schema", "lark", "regex"]
