"""What all whole answers have: their text is what is printed of them, and other libraries' ways to it are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from llamaq.boundary.habits import COMPAT, Habits

__all__ = ["Said"]

_TEXT = "its text is .text"
_ONE = f"this is one answer, and {_TEXT} (llm.batch gives several); {COMPAT} gives dicts with choices"
_HERE = {
    "choices": _ONE,
    "outputs": f"{_TEXT}, its tokens are .tokens",
    "message": f"{_TEXT}; what llm.chat gives has a .message, too",
    "token_ids": "they are .tokens",
    **dict.fromkeys(("content", "response", "output", "output_text", "generated_text"), _TEXT),
}
"""Attributes of other libraries' answers."""


class Said(Habits):
    """An answer, which ``str`` and ``print`` give as its text."""

    _said_here: ClassVar = _HERE

    def __str__(self) -> str:
        return self.text

    if TYPE_CHECKING:

        @property
        def text(self) -> str: ...

    else:

        def __getitem__(self, key: Any) -> NoReturn:
            """Raises ``TypeError``, which says what is there."""
            raise TypeError(f"{type(self).__name__!r} object is no dict, nor a list; {_ONE}")
