"""Requests to a server byte by byte, as no client of good manners would send them."""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from served import Served

ROUTE = "/v1/completions"
ENDLESS = {"prompt": "Once upon a time", "ignore_eos": True, "n": 16, "stream": True}
SHORT = {"prompt": "Tom", "max_tokens": 4, "seed": 1}


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


def head(length: int | None, *more: str, method: str = "POST", path: str = ROUTE) -> bytes:
    lengths = [] if length is None else [f"Content-Length: {length}"]
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lengths, *more, "", ""]
    return "\r\n".join(lines).encode()


def request(body: dict[str, Any], *more: str) -> bytes:
    raw = json.dumps(body).encode()
    return head(len(raw), *more) + raw


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset ends it, too."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def reset(connection: socket.socket) -> None:
    """Closes as the kernel does for a process that is killed while it has something unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def ask(server: Served, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()


def text_of(server: Served) -> str:
    status, body = ask(server, "POST", ROUTE, json.dumps(SHORT).encode())
    assert status == 200
    text: str = json.loads(body)["choices"][0]["text"]
    return text


def numbers(server: Served) -> dict[str, float]:
    page = ask(server, "GET", "/metrics")[1].decode()
    pairs = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def descriptors(server: Served) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))
