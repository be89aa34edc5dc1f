"""Patterns without what looks around: they match the same texts and more."""

from __future__ import annotations

import re

__all__ = ["without_lookaround"]

_PIECE = re.compile(r"\\[bB]|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?<?[=!]|.", re.DOTALL)


def without_lookaround(pattern: str) -> str:
    r"""The pattern without ``(?=...)``, ``(?!...)``, ``(?<=...)``, ``(?<!...)``, ``\b`` and ``\B``."""
    out: list[str] = []
    depth = 0  # depth of groups inside the one that is left out
    for piece in _PIECE.findall(pattern):
        if depth:
            depth += piece.startswith("(") - (piece == ")")
        elif piece.startswith("(?") and piece[-1] in "=!":
            depth = 1
        elif piece not in (r"\b", r"\B"):
            out.append(piece)
    return "".join(out)
