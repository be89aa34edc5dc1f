"""llguidance, imported when it is needed, and the limits that it is held to."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from llamaq.errors import StructureError

__all__ = ["LONGEST", "cleaned", "limits", "llguidance", "validate"]

LONGEST = 1_000_000
"""Characters of a grammar, schema or pattern."""


def llguidance() -> ModuleType:
    """The library. Raises ``StructureError`` where the extra is not installed."""
    try:
        import llguidance as library
    except ImportError:
        raise StructureError(
            "structured output needs the package llguidance: pip install 'llamaq[structure]'"
        ) from None
    return library


def limits() -> Any:
    """About a second to read a grammar, 50 milliseconds and 100 MB for what follows; more is an error."""
    return llguidance().LLParserLimits(
        initial_lexer_fuel=300_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def cleaned(message: str) -> str:
    """A message of llguidance in one line, without pointers and what it says to its own developers."""
    lines = (line.strip() for line in message.replace("<non-verbose/>", "").splitlines())
    return " ".join(line for line in lines if not re.fullmatch(r"(\d+ \|.*)?\^*", line))


def validate(grammar: str) -> str | None:
    """What is wrong with a grammar in llguidance's own form, None for nothing. Warnings count: a part that is not
    understood would not constrain. Tokens that it names are checked when there is a vocabulary."""
    failed, messages = llguidance().LLMatcher.validate_grammar_with_warnings(grammar, limits=limits())
    messages = [message for message in messages if failed or "no tokenizer" not in message]
    return cleaned("; ".join(messages)) or "it cannot be used" if failed or messages else None
