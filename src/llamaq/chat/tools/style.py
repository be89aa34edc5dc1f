"""How a format writes the arguments of a call, as a term of a grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llamaq.structure import json_term

__all__ = ["JSON", "Said", "Style"]

Said: TypeAlias = Callable[[str], str]
"""The term for a text whose marks may be tokens."""


@dataclass(frozen=True)
class Style:
    """``arguments`` is the term for arguments that a schema accepts, ``rule`` a terminal that such terms may name."""

    arguments: Callable[[Mapping[str, Any], Said], str]
    rule: Callable[[Said], str] | None = None


JSON = Style(lambda schema, said: json_term(schema))
