"""A loopback server with the endpoints of the Hugging Face hub that downloads use."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from model_places import COMMIT

__all__ = ["Hub", "hub_server"]


@dataclass
class Hub:
    """``files`` of the repository u/r (and below /files/) by name, what was ``asked``, and how it misbehaves: ``cut``
    files end after so many bytes, as often as said; ``wrong`` files have another size than the repository says;
    ``status`` of what begins so; where ``moved`` paths lead; without ``ranges`` files are sent from their beginning."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    cut: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    status: dict[str, tuple[int, str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    ranges: bool = True

    def downloads(self) -> list[str]:
        """The files that were fetched, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        for beginning, (code, error) in self.hub.status.items():
            if path.startswith(beginning):
                return self._send(code, b"{}", {"X-Error-Code": error, "X-Error-Message": error}, body)
        if path in self.hub.moved:
            return self._send(302, b"", {"Location": self.hub.moved[path]}, body)
        if path.startswith("/api/models/u/r"):
            siblings = [{"rfilename": name, "size": len(raw)} for name, raw in self.hub.files.items()]
            found = json.dumps({"id": "u/r", "sha": COMMIT, "siblings": siblings}).encode()
            return self._send(200, found, {"Content-Type": "application/json"}, body)
        name = (
            path.removeprefix("/files/") if "/files/" in path else path.partition("/u/r/resolve/")[2].partition("/")[2]
        )
        if name not in self.hub.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound" if name else "RepoNotFound"}, body)
        return self._file(name, self.hub.files[name], body)

    def _file(self, name: str, raw: bytes, body: bool) -> None:
        asked = self.headers.get("Range") if self.hub.ranges else None
        if self.headers.get("If-Range", self._tag(raw)) != self._tag(raw):
            asked = None
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        headers = {
            "ETag": self._tag(raw),
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if asked and start >= len(raw):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(raw)}"}, body)
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        if not body:
            return self._send(200, raw, headers, body)
        if name in self.hub.wrong:
            return self._send(200, raw[: self.hub.wrong[name]], headers, body)
        if self.hub.cut.get(name):
            self.close_connection = True
            return self._send(206 if asked else 200, raw[start:], headers, body, end=self.hub.cut[name].pop(0))
        return self._send(206 if asked else 200, raw[start:], headers, body)

    def _tag(self, raw: bytes) -> str:
        return f'"{hashlib.sha256(raw).hexdigest()}"'

    def _send(self, code: int, raw: bytes, headers: dict[str, str], body: bool, end: int | None = None) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if body:
            with suppress(ConnectionError):  # whoever was interrupted hangs up
                self.wfile.write(raw[:end])

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub until the block ends."""
    hub = Hub()

    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
