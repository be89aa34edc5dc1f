"""What an object answers who asks it as another library's is asked: how that is said here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn

__all__ = ["COMPAT", "Habits"]

COMPAT = "llamaq.compat.llama_cpp.Llama"
"""Where llama-cpp-python's interface is."""


class Habits:
    """What an object has not, by its name elsewhere."""

    _said_here: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # a type checker shall go on to see such names as errors

        def __getattr__(self, name: str) -> NoReturn:
            advice = f"; {self._said_here[name]}" if name in self._said_here else ""
            message = f"{type(self).__name__!r} object has no attribute {name!r}{advice}"
            raise AttributeError(message, name=name, obj=self)
