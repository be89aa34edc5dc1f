"""How numbers are said."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """``1 token``, ``2 tokens``: for nouns whose plural is formed with an s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
