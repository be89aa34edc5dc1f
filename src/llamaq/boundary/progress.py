"""How far along something is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int], None]
"""Is called with what is done and the total, in a unit that the function with the argument ``progress`` says."""
