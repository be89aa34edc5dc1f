"""How Ollama's protocol tells errors, and sends answers in pieces: a line of JSON each."""

from __future__ import annotations

from typing import Any

from llamaq.server.dialect import Dialect, dumps
from llamaq.server.errors import Refusal

__all__ = ["OLLAMA", "line"]


def line(value: Any) -> str:
    """A piece of an answer."""
    return dumps(value) + "\n"


class _Ollama(Dialect):
    media_type = "application/x-ndjson"
    ping = ""
    takes_any_name = False  # its clients fetch a model where they are told that it is missing
    untyped_bodies = True  # litellm and curl -d send such, and Ollama takes them

    def status(self, refusal: Refusal) -> int:
        return 503 if refusal.status == 429 else refusal.status

    def error(self, refusal: Refusal) -> dict[str, Any]:
        before = "model not found: " if refusal.code == "model_not_found" else ""
        return {"error": before + refusal.message}

    def failed(self, refusal: Refusal) -> str:
        return line(self.error(refusal))


OLLAMA = _Ollama()
