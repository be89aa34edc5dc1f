"""What protocols do differently on the way of every request: how errors look, and how answers are sent in pieces."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

from starlette.responses import Response

from llamaq.server.errors import Refusal

__all__ = ["Dialect", "dumps", "json_response", "request_id", "sse"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The number of the request that is answered, as the log has it."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Dialect:
    """OpenAI's way, which others change where theirs differs."""

    media_type = "text/event-stream"
    """Of an answer in pieces."""
    ping = ": ping\n\n"
    """A sign of life in a silent stream; empty where the protocol has none."""

    untyped_bodies = False
    """Whether a body is taken for JSON where no header says so, or curl's own, from clients that are no browsers."""

    takes_any_name = True
    """Whether the name of a model that is not here means the only one that is, as in llama-server."""

    def status(self, refusal: Refusal) -> int:
        return refusal.status

    def error(self, refusal: Refusal) -> dict[str, Any]:
        """The body of an answer that is an error."""
        return refusal.body

    def failed(self, refusal: Refusal) -> str:
        """The last piece of an answer that fails after its status has been sent."""
        return sse(dumps(self.error(refusal)))

    def refused(self, refusal: Refusal) -> Response:
        return json_response(self.error(refusal), self.status(refusal), refusal.headers)


def sse(data: str, event: str | None = None) -> str:
    """A server-sent event of one line."""
    return f"data: {data}\n\n" if event is None else f"event: {event}\ndata: {data}\n\n"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, "application/json")


def dumps(value: Any) -> str:
    """JSON as it is sent: short, in UTF-8."""
    return "null" if value is None else _ENCODER.encode(value)  # the encoder is as slow with this as with a small dict
