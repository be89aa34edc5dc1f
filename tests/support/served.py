"""``llamaq serve`` as a process with a port of its own."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from terminal import command, environment


@dataclass
class Served:
    """A server that listens at ``url``; ``lines`` are those of its stderr before."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code after a signal, and the rest of its stderr."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=120)
        return self.process.returncode, rest


@contextmanager
def served(*argv: object, **variables: str) -> Iterator[Served]:
    """Runs it on a free port until the block ends."""
    process = subprocess.Popen(
        command("serve", "--port", 0, *argv), stderr=subprocess.PIPE, text=True, env=environment(**variables)
    )
    try:
        lines: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"(?:is|are) served at (\S+)/v1$", line):
                yield Served(process, found[1], lines)
                return
            lines.append(line.rstrip())
        raise AssertionError(f"it does not serve: {lines}")
    finally:
        process.kill()
        process.communicate()
