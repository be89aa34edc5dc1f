"""Clients of ``llamaq serve`` that behave as badly as clients do: whether every answer is right, and nothing leaks.

python benchmarks/serve_load.py model.gguf --clients 32 --seconds 600 --json OUT.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from report import machine
from serve_process import COMPLETIONS, Server, events, free_port, llamaq_command, serving

CASES = 40
BAD = [
    b"", b"{", b"[]", b'{"prompt": NaN}', b'{"prompt": "\xff"}', b'{"prompt": "x", "top_p": 9}', b"[" * 10_000,
    b'{"prompt": "x", "prompt": "y"}', b'{"prompt": "x", "n": 1000}', b'{"prompt": ' + b'"x ' * 5000 + b'"}',
]  # fmt: skip
WORDS = ("once", "upon", "a", "time", "there", "was", "dog", "who", "ran", "to", "the", "park", "with", "Lily", "ball")
WARM = 0.25
"""The share of the work after which the process may have grown to its size."""
SLACK = {"memory": 48 * 1024, "threads": 4, "descriptors": 2}
"""What it may still grow by: KiB, and numbers."""


def cases(rng: random.Random) -> list[dict[str, Any]]:
    """Requests of many kinds, each with a seed."""
    return [
        {
            "prompt": " ".join(rng.choices(WORDS, k=rng.randint(1, 60))), "max_tokens": rng.randint(1, 40), "seed": i,
            "n": rng.choice((1, 1, 1, 2)), "ignore_eos": rng.random() < 0.3, "temperature": rng.choice((0.0, 0.8)),
        }
        for i in range(CASES)
    ]  # fmt: skip


class Load:
    """What the clients share."""

    def __init__(self, server: Server, asked: list[dict[str, Any]]) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._left = 0
        self._until = 0.0
        self.asked = asked
        self.expected = [self._whole(self._connection(), case) for case in asked]

    def run(self, clients: int, *, requests: int | None, seconds: float, seed: int) -> None:
        """So many clients at once, until there have been so many requests or the time is over."""
        self._left = sys.maxsize if requests is None else requests
        self._until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._client, args=(random.Random(seed * 1000 + i),)) for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, rng: random.Random) -> None:
        kinds: list[tuple[Callable[[random.Random], None], int]] = [
            (self._right, 6), (self._streamed, 6), (self._slow, 1), (self._leaves, 3), (self._resets, 2),
            (self._bad, 2), (self._killed, 1),
        ]  # fmt: skip
        actions, weights = zip(*kinds, strict=True)
        while True:
            with self._lock:
                if self._left <= 0 or time.monotonic() > self._until:
                    return
                self._left -= 1
            action = rng.choices(actions, weights)[0]
            try:
                action(rng)
            except (OSError, HTTPException, ValueError, KeyError) as error:
                self._note(f"{action.__name__}: {error!r}")

    def _note(self, wrong: str) -> None:
        with self._lock:
            self.wrong.append(wrong)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.server.port, timeout=600)

    def _post(self, connection: HTTPConnection, body: bytes) -> Any:
        connection.request("POST", COMPLETIONS, body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def _whole(self, connection: HTTPConnection, case: dict[str, Any]) -> list[str] | None:
        """The texts; None where the server is full."""
        with contextlib.closing(connection):
            response = self._post(connection, json.dumps(case).encode())
            body = json.loads(response.read())
        if response.status == 429 and int(response.headers["retry-after"]) > 0:
            return None
        return [choice["text"] for choice in body["choices"]]

    def _right(self, rng: random.Random) -> None:
        number = rng.randrange(CASES)
        self._check(number, self._whole(self._connection(), self.asked[number]))

    def _streamed(self, rng: random.Random, pause: float = 0.0) -> None:
        number = rng.randrange(CASES)
        with contextlib.closing(self._connection()) as connection:
            response = self._post(connection, json.dumps({**self.asked[number], "stream": True}).encode())
            if response.status == 429:
                self._check(number, None)
                return
            texts = [""] * self.asked[number]["n"]
            for event in events(iter(response.readline, b"")):
                for choice in event["choices"]:
                    texts[choice["index"]] += choice["text"]
                if pause:
                    time.sleep(pause)
        self._check(number, texts)

    def _slow(self, rng: random.Random) -> None:
        self._streamed(rng, pause=0.02)

    def _check(self, number: int, texts: list[str] | None) -> None:
        if texts is None:
            self._count("full")
            time.sleep(0.2)
        elif texts == self.expected[number]:
            self._count("right")
        else:
            self._note(f"case {number}: {texts!r} instead of {self.expected[number]!r}")

    def _leaves(self, rng: random.Random) -> None:
        """In the middle of a stream."""
        body = {"prompt": rng.choice(WORDS), "ignore_eos": True, "stream": True, "n": rng.randint(1, 4)}
        with contextlib.closing(self._connection()) as connection:
            response = self._post(connection, json.dumps(body).encode())
            for _ in range(rng.randint(0, 6)):
                response.readline()
        self._count("left")

    def _resets(self, rng: random.Random) -> None:
        """At any byte of the request, or while it waits."""
        body = json.dumps({"prompt": " ".join(rng.choices(WORDS, k=80)), "ignore_eos": True}).encode()
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        raw = f"{head}{len(body)}\r\n\r\n".encode() + body
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            connection.sendall(raw[: rng.choice((rng.randrange(len(raw)), len(raw)))])
            time.sleep(rng.choice((0.0, 0.0, 0.05)))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._count("reset")

    def _bad(self, rng: random.Random) -> None:
        with contextlib.closing(self._connection()) as connection:
            response = self._post(connection, rng.choice(BAD))
            error = json.loads(response.read())["error"]
        if response.status in (400, 429) and error["message"]:
            self._count("refused")
        else:
            self._note(f"a bad body got {response.status}")

    def _killed(self, rng: random.Random) -> None:
        """A process that is killed while it reads."""
        body = json.dumps({"prompt": "once", "ignore_eos": True, "stream": True})
        head = f"POST {COMPLETIONS} HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\n"
        request = f"{head}Content-Length: {len(body)}\\r\\n\\r\\n{body}"
        script = f"exec 3<>/dev/tcp/127.0.0.1/{self.server.port}; printf '{request}' >&3; exec cat <&3 >/dev/null"
        client = subprocess.Popen(["bash", "-c", script], stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.2)
        client.send_signal(signal.SIGKILL)
        client.wait()
        self._count("killed")


def quiet(server: Server) -> dict[str, int]:
    """What the process holds once nothing runs."""
    while any(server.numbers()[f"llamaq_{name}"] for name in ("answers_running", "requests_waiting")):
        time.sleep(0.05)
    before: dict[str, int] = {}
    now = server.held()
    while (before.get("threads"), before.get("descriptors")) != (now["threads"], now["descriptors"]):
        time.sleep(0.2)
        before, now = now, server.held()
    return now


def parts(args: argparse.Namespace) -> Iterator[tuple[int | None, float]]:
    for share in (WARM, 1.0 - WARM):
        yield (None if args.requests is None else round(args.requests * share)), args.seconds * share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--requests", type=int, help="in the place of --seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of the server (default: its own)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.requests is not None:
        args.seconds = float(10**6)
    port = free_port()
    options = ["-np", "8", "-c", "512", "--metrics", "--log-format", "none", "--body-timeout", "5", "--max-queue", "16",
               *(["-t", str(args.threads)] if args.threads else [])]  # fmt: skip
    began = time.monotonic()
    with serving(llamaq_command(args.model, options, port), port) as server:
        load = Load(server, cases(random.Random(args.seed)))
        held = []
        for number, (requests, seconds) in enumerate(parts(args)):
            load.run(args.clients, requests=requests, seconds=seconds, seed=args.seed + number)
            held.append(quiet(server))
        again = [load._whole(load._connection(), case) for case in load.asked]
        if again != load.expected:
            load.wrong.append("afterwards the answers are others")
        if server.process.poll() is not None:
            load.wrong.append(f"the server ended: {''.join(server.lines)}")
    warm, end = held
    grown = {name: end[name] - warm[name] for name in warm}
    load.wrong += [f"{name} grew by {grown[name]}" for name, most in SLACK.items() if grown[name] > most]
    if server.process.returncode != 0 or any("llamaq" not in line for line in server.lines):
        load.wrong.append(f"the server's last words: {server.process.returncode} {''.join(server.lines)}")
    found = {
        "model": Path(args.model).name, "clients": args.clients, "seconds": round(time.monotonic() - began, 1),
        "counts": dict(load.counts), "warm": warm, "end": end, "wrong": load.wrong, "machine": machine(),
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if load.wrong:
        raise SystemExit(f"{len(load.wrong)} things went wrong: {load.wrong[0]}")


if __name__ == "__main__":
    main()
