"""The JSON object that a request brings. Nothing in it is believed before its size, depth and text are."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from llamaq.server.connection import in_time
from llamaq.server.errors import Gone, Refusal
from llamaq.server.settings import Settings

__all__ = ["Bodies", "json_object_of"]

_DEEPEST = 64
_MOST_BODIES = 16  # bodies of the largest size that may be read at once
_RETRY = 5  # seconds
_MOST_AT_ONCE = 1 << 16  # bytes that are parsed without a thread
_NO_TYPE = ("", "application/x-www-form-urlencoded")  # the second is what curl -d says of any body
_SURROGATE = re.compile("[\ud800-\udfff]")


class Bodies:
    """Reads the bodies of all requests: not too many bytes at once, so that slow clients cannot fill the memory."""

    def __init__(self, settings: Settings) -> None:
        self.held = 0
        """Bytes of bodies that are being read."""
        self._most = settings.max_body
        self._seconds = settings.body_seconds

    async def read(self, headers: Headers, receive: Receive, *, untyped: bool = False) -> dict[str, Any]:
        """A body as an object; ``untyped``: the header that says what it is may be missing, or be that of ``curl -d``.
        Raises ``Refusal`` for one that is too large, too slow, or no JSON object; ``Gone``."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        # A page can send such bodies to other sites unasked, but then its browser says where it is from.
        no_type = untyped and kind in _NO_TYPE and "origin" not in headers and "sec-fetch-site" not in headers
        if not no_type and kind != "application/json" and not kind.endswith("+json"):
            raise Refusal(
                415, f"the body must be JSON, with the header Content-Type: application/json; got {kind!r:.60}"
            )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most:
            raise self._too_large()
        parts: list[bytes] = []
        try:
            late = Refusal(408, f"the body did not come within {self._seconds:g} seconds")
            async with in_time(self._seconds, late):
                await self._read(receive, parts)
        finally:
            self.held -= sum(map(len, parts))
        body = b"".join(parts)
        if len(body) > _MOST_AT_ONCE:
            return await asyncio.to_thread(json_object_of, body)
        return json_object_of(body)

    async def _read(self, receive: Receive, parts: list[bytes]) -> None:
        size, more = 0, True
        while more:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self.held += len(parts[-1])
            more = message.get("more_body", False)
            if size > self._most:
                raise self._too_large()
            if self.held > _MOST_BODIES * self._most:
                raise Refusal(503, "too many large bodies come at once", retry_after=_RETRY)

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than {self._most} bytes")


def json_object_of(body: bytes) -> dict[str, Any]:
    """Strict JSON: finite numbers, whole characters, each key once, at most so many levels. Raises ``Refusal``."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8: byte {error.start} is wrong") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refusal(400, "the body must be a JSON object")
    _check(found)
    return found


def _check(found: Any) -> None:
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
                raise Refusal(400, "the body has half a surrogate pair (\\ud800 to \\udfff), which is no character")
            elif isinstance(value, float) and not math.isfinite(value):
                raise Refusal(400, "the body has a number beyond all floats, such as 1e999")
        if not below:
            return
        level = below
    raise _too_deep()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise Refusal(400, f"the body has {twice!r:.60} twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise Refusal(400, f"the body is not JSON: {text} is no number there")


def _too_deep() -> Refusal:
    return Refusal(400, f"the body is nested deeper than {_DEEPEST} levels")
