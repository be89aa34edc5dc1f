"""llguidance, imported when it is needed, and the limits that it is held to."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeVar

from llamaq.boundary.locks import ForkLock
from llamaq.errors import StructureError

__all__ = ["LEVELS", "LONGEST", "cleaned", "limits", "llguidance", "on_a_deep_stack", "printable", "validate"]

LONGEST = 1_000_000
"""Characters of a grammar, schema or pattern."""

LEVELS = 4000
"""Rules, and groups in them, that a grammar may have: all could stand inside one another, and llguidance goes down
by recursion."""

_STACK = 256 << 20  # bytes: many times what so many levels were seen to take; untouched pages cost nothing
_starting = ForkLock()
_T = TypeVar("_T")


def llguidance() -> ModuleType:
    """The library. Raises ``StructureError`` where the extra is not installed."""
    try:
        import llguidance as library
    except ImportError:
        raise StructureError(
            "structured output needs the package llguidance: pip install 'llamaq[structure]'"
        ) from None
    return library


def limits(*, schema: bool = False) -> Any:
    """A second or two to read a grammar, mostly 50 milliseconds and 100 MB for what follows; more is an error."""
    return llguidance().LLParserLimits(
        initial_lexer_fuel=300_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_items_in_row=12_000 if schema else 2000,  # an optional property of an object takes four
        max_lexer_states=50_000,
        max_grammar_size=20_000,
        verbose_errors=False,
    )


def on_a_deep_stack(work: Callable[[], _T]) -> _T:
    """What ``work`` gives, run by a thread with room for a grammar of ``LEVELS``: reading one overflows the usual
    stack, which ends the process."""
    with ThreadPoolExecutor(1, thread_name_prefix="llamaq-structure") as pool:
        with _starting:
            usual = threading.stack_size(_STACK)
            try:
                result = pool.submit(work)
            finally:
                threading.stack_size(usual)
        return result.result()


def cleaned(message: str) -> str:
    """A message of llguidance in one line that is not too long, without pointers and words to its own developers."""
    lines = (line.strip() for line in message.replace("<non-verbose/>", "").splitlines())
    message = " ".join(line for line in lines if not re.fullmatch(r"(\d+ \|.*)?\^*", line))
    return message if len(message) <= 600 else f"{message[:300]} ... {message[-250:]}"


def printable(text: str) -> str:
    """A text in one line, without what would act on a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def validate(grammar: str) -> str | None:
    """What is wrong with a grammar in llguidance's own form, None for nothing. Warnings count: a part that is not
    understood would not constrain. Tokens that it names are checked when there is a vocabulary."""
    check = llguidance().LLMatcher.validate_grammar_with_warnings
    failed, messages = on_a_deep_stack(lambda: check(grammar, limits=limits()))
    messages = [message for message in messages if failed or "no tokenizer" not in message]
    return cleaned("; ".join(messages)) or "it cannot be used" if failed or messages else None
