"""A client that calls an ASGI application in this process, and may hang up or read slowly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

TEMPLATE = """\
{% if tools %}Write <tool_call> for: {{ tools|tojson }}
{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}assistant:"""
"""A chat template with tools."""


@dataclass
class Reply:
    """What came back so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error

    @property
    def frames(self) -> list[Any]:
        """The JSON of the events, without ``[DONE]``."""
        return [json.loads(text) for text in self.events if text != "[DONE]"]

    @property
    def events(self) -> list[str]:
        parts = self.body.decode().split("\n\n")
        return [part.removeprefix("data: ") for part in parts if part.startswith("data: ")]


class Client:
    """``Client(app).post("/v1/completions", {...})``; coroutines have an ``a`` before their names."""

    def __init__(self, app: Any, **headers: str) -> None:
        self.app = app
        self.headers = {"host": "localhost:8080", **headers}

    def get(self, path: str, **headers: str) -> Reply:
        return asyncio.run(self.asend("GET", path, b"", headers))

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return asyncio.run(self.apost(path, body, **headers))

    async def apost(self, path: str, body: Any, reply: Reply | None = None, /, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.asend("POST", path, raw, {"content-type": "application/json", **headers}, reply=reply)

    async def asend(
        self, method: str, path: str, body: bytes | Sequence[bytes | None], headers: dict[str, str], *,
        reply: Reply | None = None, hang_up: asyncio.Event | None = None,
        on_send: Callable[[Reply], Any] | None = None, query: str = "",
    ) -> Reply:  # fmt: skip
        """A body may have parts; where one is None, the rest never comes. ``reply`` fills as it comes; the client is
        gone once ``hang_up`` is set; ``on_send`` is called, and awaited, with each part of the answer."""
        found = Reply() if reply is None else reply
        parts = [body] if isinstance(body, bytes) else list(body)
        all_headers = {key.replace("_", "-"): value for key, value in {**self.headers, **headers}.items()}
        gone = asyncio.Event() if hang_up is None else hang_up

        async def receive() -> dict[str, Any]:
            if parts and parts[0] is not None:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            assert not found.ended, "something was sent after the end"
            if message["type"] == "http.response.start":
                found.status = message["status"]
                found.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                found.body += message.get("body", b"")
                found.ended = not message.get("more_body", False)
            if on_send is not None:
                result = on_send(found)
                if asyncio.iscoroutine(result):
                    await result

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
            "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080),
            "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in all_headers.items()],
        }  # fmt: skip
        await self.app(scope, receive, send)
        return found
