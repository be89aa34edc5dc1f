"""Which protocol a path belongs to, so that who is refused before a route is told in words that the client knows."""

from __future__ import annotations

from llamaq.server.anthropic.dialect import ANTHROPIC
from llamaq.server.dialect import Dialect
from llamaq.server.ollama.dialect import OLLAMA

__all__ = ["dialect_of"]

_BY_BEGINNING: dict[str, Dialect] = {"/v1/messages": ANTHROPIC, "/api/": OLLAMA}
"""What paths of a protocol begin with; the others are OpenAI's and llama-server's, which look alike."""
_OPENAI = Dialect()


def dialect_of(path: str) -> Dialect:
    return next((found for begin, found in _BY_BEGINNING.items() if path.startswith(begin)), _OPENAI)
