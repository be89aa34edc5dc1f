"""How the process ends while clients of all protocols are there: each is told in its own way, and stderr is quiet."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi import TEMPLATE
from served import Served, served
from waiting import wait_until

pytestmark = pytest.mark.subprocess

HELLO = [{"role": "user", "content": "Hi"}]
STREAM = {"stream": True, "max_tokens": 100_000, "ignore_eos": True}
OPTIONS = {"options": {"ignore_eos": True}}
STREAMS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": ({"messages": HELLO, **STREAM}, 'data: {"error":{"message"'),
    "/v1/completions": ({"prompt": "Hi", **STREAM}, 'data: {"error":{"message"'),
    "/v1/responses": ({"input": "Hi", "stream": True, "ignore_eos": True}, "event: response.failed"),
    "/v1/messages": ({"messages": HELLO, **STREAM}, 'event: error\ndata: {"type":"error","error":{"type":"overloaded'),
    "/api/chat": ({"model": "m", "messages": HELLO, **OPTIONS}, '\n{"error":"the server'),
    "/api/generate": ({"model": "m", "prompt": "Hi", **OPTIONS}, '\n{"error":"the server'),
    "/completion": ({"prompt": "Hi", **STREAM}, 'data: {"error":{"message"'),
}
"""What never ends by itself, and how its end begins where it is cut off."""


def serving(stories: Path, *more: object) -> Any:
    options = ("-t", 1, "-c", 100_000, "-np", 16, "--alias", "m", "--chat-template", TEMPLATE, "--log-format", "none")
    return served(stories, *options, *more)


def ask(server: Served, path: str, body: dict[str, Any], *, cut: int | None = None, room: int = 0) -> socket.socket:
    """A connection that has asked, but for what is ``cut``; ``room``: bytes that it takes without being read."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}"
    found = socket.socket()
    if room:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    found.connect(("127.0.0.1", server.port))
    found.sendall(head.encode() + b"\r\n\r\n" + raw[:cut])
    return found


def read_all(connection: socket.socket) -> Iterator[str]:
    while piece := connection.recv(65536):
        yield piece.decode()


@pytest.mark.parametrize("again", [False, True])
def test_clients_of_all_protocols_are_told(stories: Path, again: bool) -> None:
    """At once, or by a second signal."""
    with serving(stories, "--drain-timeout", 1000 if again else 0) as server:
        connections = {path: ask(server, path, body) for path, (body, _) in STREAMS.items()}
        texts = {path: connection.recv(65536).decode() for path, connection in connections.items()}
        assert all("200 OK" in text for text in texts.values()), texts
        server.process.send_signal(signal.SIGTERM)
        if again:
            wait_until(lambda: refused(server))
            server.process.send_signal(signal.SIGTERM)
        for path, (_, error) in STREAMS.items():
            with connections[path] as connection:
                text = texts[path] + "".join(read_all(connection))
            last = text.rindex("the server is shutting down")
            assert error in text[max(last - 3000, 0) :], path
            assert "[DONE]" not in text
            assert text.endswith("\r\n0\r\n\r\n")
        code, err = server.wait()
        assert (code, err) == (0, "")


def refused(server: Served) -> bool:
    """Whether nobody comes in any more."""
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except OSError:
        return True
    return False


def test_clients_that_do_nothing_do_not_keep_it(stories: Path) -> None:
    with serving(stories, "--drain-timeout", 1000) as server:
        full = {"prompt": "Hi", "n": 8, "logprobs": 20, **STREAM}
        reads_nothing = ask(server, "/v1/completions", full, room=2048)
        sends_nothing = ask(server, "/v1/messages", {"messages": HELLO}, cut=3)
        with ask(server, "/v1/chat/completions", STREAMS["/v1/chat/completions"][0]) as other:
            assert b"200 OK" in other.recv(65536)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(server))
            assert server.end() == (0, "")
        reads_nothing.close()
        sends_nothing.close()
