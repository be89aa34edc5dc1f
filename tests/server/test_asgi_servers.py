"""The application under other ASGI servers, where they are installed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from terminal import environment

pytestmark = pytest.mark.subprocess

MODULE = """
from llamaq.server import Settings, app
application = app({path!r}, Settings(load={{"threads": 1, "n_ctx": 256}}))
"""
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "served:application", "--host", "127.0.0.1", "--port"],
    "hypercorn": ["-m", "hypercorn", "served:application", "--bind"],
    "granian": ["-m", "granian", "--interface", "asgi", "served:application", "--host", "127.0.0.1", "--port"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_it_serves_and_ends(stories: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is missing")
    (tmp_path / "served.py").write_text(MODULE.format(path=str(stories)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}" if name == "hypercorn" else str(port)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[name], address], cwd=tmp_path, env=environment(PYTHONPATH=path),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", port)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    try:
        while ask("GET", "/health")[0] != 200:
            assert process.poll() is None
            time.sleep(0.1)  # longer than elsewhere: a connection to a port that nobody has may be one to itself
        body = {"prompt": "Tom", "max_tokens": 3, "seed": 1}
        status, whole = ask("POST", "/v1/completions", body)
        assert (status, len(json.loads(whole)["choices"])) == (200, 1)
        assert ask("POST", "/v1/completions", {**body, "stream": True})[1].endswith(b"data: [DONE]\n\n")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
