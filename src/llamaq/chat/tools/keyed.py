"""Arguments by name without JSON's quotes: ``x=1, y="a"`` as LFM 2 writes them, ``{x:1,y:<|"|>a<|"|>}`` as Gemma 4."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from llamaq.chat.tools.style import Said, Style
from llamaq.chat.tools.tagged import choices_of, json_value, properties_of
from llamaq.structure import json_term, literal

__all__ = ["BRACED", "ESCAPED", "TAKEN_BY_NAME"]

_MANY = 12  # parameters that may all be left out: each of them can come first


def _by_name(
    schema: Mapping[str, Any], separator: str, fits: Callable[[str], bool], pair: Callable[[str, Any, Any], str | None]
) -> str | None:
    """``pair`` (of name, schema and definitions) for each parameter, required ones first; None where names do not fit,
    or the schema asks for more than parameters."""
    found = properties_of(schema)
    if found is None or not all(map(fits, found.schemas)):
        return None
    names = sorted(found.schemas, key=lambda name: name not in found.required)
    terms = [pair(name, found.schemas[name], found.definitions) for name in names]
    if None in terms or (not found.required and len(terms) > _MANY):
        return None
    return _listed([term for term in terms if term is not None], len(found.required), separator)


def _listed(terms: Sequence[str], required: int, separator: str) -> str:
    """The first ``required`` terms and any of the others, in their order."""
    if not terms:
        return literal("")
    ways = []
    for first in range(1 if required else len(terms)):
        more = [
            f"({literal(separator)} {term}){'' if at < required else '?'}"
            for at, term in enumerate(terms[first + 1 :], first + 1)
        ]
        ways.append(" ".join([terms[first], *more]))
    return f"({' | '.join(ways)}){'' if required else '?'}"


def _taken_by_name(schema: Mapping[str, Any], said: Said) -> str:
    def pair(name: str, value: Any, definitions: Mapping[str, Any]) -> str | None:
        written = json_value(value, definitions)
        return None if written is None else f"{literal(name + '=')} {written}"

    found = _by_name(schema, ", ", lambda name: name.isidentifier() and not keyword.iskeyword(name), pair)
    return f"{literal('**')} {json_term(schema)}" if found is None else found


def _braced(quote: str, schema: Mapping[str, Any], said: Said) -> str:
    def pair(name: str, value: Any, definitions: Mapping[str, Any]) -> str | None:
        choices = choices_of(value)
        if choices is None:
            written = json_value(value, definitions)
        elif not choices:
            written = f"{said(quote)} {'WORDS?' if _is_token(quote, said) else 'WORDS'}"
        elif any(quote in choice for choice in choices):
            return None
        else:
            written = f"{said(quote)} ({' | '.join(map(literal, choices))})"
        if written is not None and choices is not None and (choices or _is_token(quote, said)):
            written += f" {said(quote)}"
        return None if written is None else f"{literal(name + ':')} {written}"

    found = _by_name(schema, ",", str.isidentifier, pair)
    return json_term(schema) if found is None else f"{literal('{')} {found} {literal('}')}"


def _is_token(quote: str, said: Said) -> bool:
    return said(quote).startswith("<[")


def _words(quote: str, said: Said) -> str:
    """A text; where its end is no token, up to that."""
    if _is_token(quote, said):
        return "WORDS: /(?s:.+)/"
    return rf"WORDS: (/(?s:.*)/ & ~/(?s:.*{re.escape(quote)}.*)/) {literal(quote)}"


def _with_quotes(quote: str) -> Style:
    """Braces around names and values, and this mark around texts."""
    return Style(partial(_braced, quote), partial(_words, quote))


TAKEN_BY_NAME = Style(_taken_by_name)
BRACED, ESCAPED = _with_quotes('<|"|>'), _with_quotes("<escape>")
