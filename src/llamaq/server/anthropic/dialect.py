"""How errors and signs of life look to Anthropic's clients."""

from __future__ import annotations

from typing import Any

from llamaq.server.dialect import Dialect, dumps, request_id, sse
from llamaq.server.errors import Refusal

__all__ = ["ANTHROPIC", "frame"]

_OVERLOADED = 529
_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    413: "request_too_large", 429: "rate_limit_error", _OVERLOADED: "overloaded_error",
}  # fmt: skip


def frame(type: str, **more: Any) -> str:
    """An event of a stream, which has its type twice."""
    return sse(dumps({"type": type, **more}), type)


class _Anthropic(Dialect):
    ping = frame("ping")

    def status(self, refusal: Refusal) -> int:
        return _OVERLOADED if refusal.status == 503 else refusal.status

    def error(self, refusal: Refusal) -> dict[str, Any]:
        status = self.status(refusal)
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        message = refusal.message
        if refusal.code == "context_length_exceeded":  # agents know by these words that they must shorten it
            message = f"prompt is too long: {refusal.more['n_prompt_tokens']} tokens > {refusal.more['n_ctx']} maximum"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id.get()}

    def failed(self, refusal: Refusal) -> str:
        return sse(dumps(self.error(refusal)), "error")


ANTHROPIC = _Anthropic()
