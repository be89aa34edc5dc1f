"""A server as a process: started, asked over HTTP, and looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from typing import Any

__all__ = ["Server", "events", "free_port", "llamaq_command", "serving"]

COMPLETIONS = "/v1/completions"


class Server:
    """A process that serves at ``port``."""

    def __init__(self, process: subprocess.Popen[str], port: int, lines: deque[str]) -> None:
        self.process = process
        self.port = port
        self.lines = lines
        """The latest of its stderr."""

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        with contextlib.closing(connection):
            raw = None if body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

    def numbers(self) -> dict[str, float]:
        """Those of /metrics, without labels."""
        page = self.ask("GET", "/metrics")[1].decode()
        pairs = (line.rpartition(" ") for line in page.splitlines() if line[:1] not in ("#", "") and "{" not in line)
        return {name: float(value) for name, _, value in pairs}

    def held(self) -> dict[str, int]:
        """Memory in KiB, threads and descriptors of the process."""
        found = {"descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd"))}
        with open(f"/proc/{self.process.pid}/status") as status:
            lines = {name: rest for name, _, rest in (line.partition(":") for line in status)}
        return {**found, "memory": int(lines["VmRSS"].split()[0]), "threads": int(lines["Threads"])}

    def cpu(self) -> float:
        """Seconds of CPU that its first thread, the event loop's, has taken."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9


def llamaq_command(model: str, options: Sequence[str], port: int) -> list[str]:
    return [sys.executable, "-m", "llamaq", "serve", model, "--port", str(port), *options]


@contextlib.contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[Server]:
    """Runs a command that serves at this port until the block ends; it is ready once /health says so."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines: deque[str] = deque(maxlen=200)
    assert process.stderr is not None
    reader = threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True)
    reader.start()
    server = Server(process, port, lines)
    try:
        while not _is_ready(server):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended: {''.join(lines)}")
            time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stderr.close()


def _is_ready(server: Server) -> bool:
    try:
        return server.ask("GET", "/health")[0] == 200
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody uses, below those that the system gives to clients."""
    for port in range(18_000 + os.getpid() % 10_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise SystemExit("no port is free")


def events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON of server-sent events. Raises ``ValueError`` where they end without ``[DONE]``."""
    for line in lines:
        if found := re.fullmatch(rb"data: (.*)\n", line):
            if found[1] == b"[DONE]":
                return
            yield json.loads(found[1])
    raise ValueError("the stream ended early")
