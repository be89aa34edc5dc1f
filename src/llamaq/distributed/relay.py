"""A server in two parts: a door that reads requests, and the applications behind it that answer, wherever they run.

Requests that begin alike go to the same application, whose cache has their beginning already.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from starlette.types import Receive, Scope, Send

__all__ = ["Ask", "Door", "Gone", "affinity", "relayed"]

Ask = Callable[[str, str, dict[str, Any], bytes], AsyncIterator[dict[str, Any]]]
"""Has a model (by its name) answer a request with this affinity, scope and body, in messages of ASGI. Raises ``Gone``
where who answers dies."""

_PLAIN = ("type", "method", "path", "query_string", "headers")
_MOST_BODY = 64 * 2**20  # bytes; the application has a limit of its own
_BEGINNING = 512  # characters of a prompt
_TRIES = 8
_PAUSE = 0.5
"""Seconds before a request is asked of another."""


class Gone(Exception):
    """Whoever was to answer is gone."""


class Door:
    """An ASGI application in front of models with these names."""

    def __init__(self, names: Sequence[str], ask: Ask) -> None:
        self._names = list(names)
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        if scope["type"] != "http":  # there are no web sockets
            return
        body = await _body(receive)
        if body is None:
            return
        if len(body) > _MOST_BODY:
            await send({"type": "http.response.start", "status": 413, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        plain = {name: scope[name] for name in _PLAIN if name in scope}
        plain["headers"] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        if scope["method"] == "GET" and scope["path"] == "/v1/models":
            await self._list(plain, send)
            return
        name, key = affinity(body, self._names)
        answer = asyncio.ensure_future(self._send(self._answer(name, key, plain, body), send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
        finally:  # the model need not go on where nobody listens
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _answer(self, name: str, key: str, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        """What is answered; a request whose answerer is gone before the first message is asked of another."""
        for tries in range(1, _TRIES + 1):
            begun = False
            try:
                async with aclosing(self._ask(name, key, scope, body)) as messages:  # type: ignore[type-var]
                    async for message in messages:
                        begun = True
                        yield message
                return
            except Gone:
                if begun or tries == _TRIES:
                    raise
            await asyncio.sleep(_PAUSE)

    async def _send(self, messages: AsyncIterator[dict[str, Any]], send: Send) -> None:
        async with aclosing(messages) as all_messages:  # type: ignore[type-var]
            async for message in all_messages:
                await send(message)

    async def _list(self, scope: dict[str, Any], send: Send) -> None:
        """The models of all applications in one list."""
        found: list[Any] = []
        for name in self._names:
            parts = [message async for message in self._answer(name, "", scope, b"")]
            raw = b"".join(part.get("body", b"") for part in parts)
            if parts[0]["status"] != 200:
                await _send_all(send, parts)
                return
            found += json.loads(raw)["data"]
        body = json.dumps({"object": "list", "data": found}).encode()
        headers = [(b"content-type", b"application/json")]
        await _send_all(
            send,
            [
                {"type": "http.response.start", "status": 200, "headers": headers},
                {"type": "http.response.body", "body": body},
            ],
        )


def affinity(body: bytes, names: Sequence[str]) -> tuple[str, str]:
    """The model that a body asks for, the first where it names none of these, and a word that is the same for bodies
    that begin alike: of conversations with the same first message of the user, prompts with the same beginning."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        return names[0], ""
    model = found.get("model")
    name = model if isinstance(model, str) and model in names else names[0]
    begins: list[Any] = [found.get("system"), found.get("instructions"), found.get("tools")]
    said = next((found[key] for key in ("messages", "input", "prompt", "contents") if found.get(key)), None)
    if isinstance(said, list):
        for message in said:
            begins.append(message)
            if not isinstance(message, Mapping) or message.get("role") == "user":
                break
    else:
        begins.append(str(said)[:_BEGINNING])
    return name, hashlib.sha256(json.dumps(begins, sort_keys=True).encode()).hexdigest()[:16]


async def relayed(app: Any, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
    """What an application in this process answers, message by message; who stops reading hangs up."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(16)
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await app(scope, receive, queue.put)
        finally:
            await queue.put(None)

    task = asyncio.ensure_future(work())
    try:
        while (message := await queue.get()) is not None:
            yield message
        await task
    finally:
        left.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _body(receive: Receive) -> bytes | None:
    """The body of a request, or so much of it as shows that it is too long; None where the client is gone."""
    body, more = b"", True
    while more and len(body) <= _MOST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _live(receive: Receive, send: Send) -> None:
    """Begins and ends with the ASGI server; there is nothing to prepare."""
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    if message["type"] == "lifespan.shutdown":
        await send({"type": "lifespan.shutdown.complete"})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_all(send: Send, messages: Sequence[dict[str, Any]]) -> None:
    for message in messages:
        await send(message)
