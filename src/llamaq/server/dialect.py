"""What protocols do differently on the way of every request: how errors look, and how answers are sent in pieces."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from starlette.responses import Response

from llamaq.server.errors import Refusal

__all__ = ["Dialect", "dumps", "json_response", "long_json_response", "request_id", "sse"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The number of the request that is answered, as the log has it."""


_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_TOGETHER = 1024
"""Items of a list that are written at once."""
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


async def long_json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    """The same for what has long lists: others have their turn while they are written, which a thread would not give
    them, for all that json writes at once it writes without letting go of the interpreter."""
    parts: list[str] = []
    for part in _parts(value):
        parts.append(part)
        await asyncio.sleep(0)
    return Response("".join(parts), 200, headers, "application/json")


def _parts(value: Any) -> Iterator[str]:
    """The text of a value, in parts of no great length."""
    if not _is_long(value):
        yield dumps(value)
    elif isinstance(value, dict):
        for i, (key, item) in enumerate(value.items()):
            yield f"{',' if i else '{'}{dumps(key)}:"
            yield from _parts(item)
        yield "}"
    elif _is_long(value[0]):
        for i, item in enumerate(value):
            yield "," if i else "["
            yield from _parts(item)
        yield "]"
    else:
        for i in range(0, len(value), _TOGETHER):
            yield f"{',' if i else '['}{dumps(value[i : i + _TOGETHER])[1:-1]}"
        yield "]"


def _is_long(value: Any) -> bool:
    """Whether it is a list of many items, or has such a one; all items of a list are alike."""
    if isinstance(value, list):
        return len(value) > _TOGETHER // 16 or (bool(value) and _is_long(value[0]))
    return isinstance(value, dict) and any(map(_is_long, value.values()))


def dumps(value: Any) -> str:
    """JSON as it is sent: short, in UTF-8, and one line for everybody: Python's clients take for the end of a line what
    Unicode does, which JSON need not escape."""
    if value is None:
        return "null"  # the encoder is as slow with this as with a small dict
    text = _ENCODER.encode(value)
    return text if text.isascii() else _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
