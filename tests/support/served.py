"""``llamaq serve`` as a process with a port of its own."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from terminal import command, environment


@dataclass
class Served:
    """A server that listens at ``url``; ``lines`` are those of its stderr before. What comes later is read as it comes:
    a full pipe would stop the server."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    def __post_init__(self) -> None:
        self._rest: list[str] = []
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._rest.extend(self.process.stderr)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code after a signal, and the rest of its stderr."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """The same once it ends by itself."""
        code = self.process.wait(timeout=120)
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code, "".join(self._rest)


@contextmanager
def served(*argv: object, **variables: str) -> Iterator[Served]:
    """Runs it on a free port until the block ends."""
    process = subprocess.Popen(
        command("serve", "--port", 0, *argv), stderr=subprocess.PIPE, text=True, env=environment(**variables)
    )
    server = None
    try:
        lines: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"(?:is|are) served at (\S+)/v1$", line):
                server = Served(process, found[1], lines)
                yield server
                return
            lines.append(line.rstrip())
        raise AssertionError(f"it does not serve: {lines}")
    finally:
        process.kill()
        if server is not None:
            server.wait()
        else:
            process.communicate()
