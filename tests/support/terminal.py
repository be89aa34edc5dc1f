"""A process of the command line on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from llamaq import _core
from waiting import wait_until

HANG = 300.0  # seconds: nothing here takes as long


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "llamaq", *map(str, argv)]


def environment(**extra: str) -> dict[str, str]:
    package = str(Path(_core.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": package, **extra}


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C there becomes a signal


class Terminal:
    """A process whose stderr (and stdout, with ``both``; and stdin, with ``typed``) is a pseudo-terminal, whose
    output is collected."""

    def __init__(
        self, *argv: object, both: bool = False, typed: bool = False, program: Sequence[object] = (), **extra: str
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown = b""
        both = both or typed
        self.process = subprocess.Popen(
            [*map(str, program)] or command(*argv), stdin=slave if typed else subprocess.DEVNULL,
            stdout=slave if both else subprocess.PIPE, stderr=slave, env=environment(**extra), start_new_session=True,
            preexec_fn=_take_terminal if typed else None,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._collect, args=(self._master,))
        self._reader.start()

    def type(self, text: str) -> None:
        """What somebody types: ``\\r`` is Enter, ``\\x03`` Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._master, text.encode())

    def reads_keys(self) -> bool:
        """Whether the process reads each key as it comes, and not whole lines."""
        return not termios.tcgetattr(self._master)[3] & termios.ICANON

    def _collect(self, master: int) -> None:
        try:
            while data := os.read(master, 65536):
                self.shown += data
        except OSError:  # Linux says so that the other side is closed
            pass
        os.close(master)

    def wait_for(self, text: bytes, after: int = 0) -> int:
        """Waits until ``text`` is shown, after so many bytes; where it ends."""
        end = time.monotonic() + HANG

        def shown() -> bool:
            assert time.monotonic() < end, self.shown
            assert text in self.shown[after:] or self.process.poll() is None, self.shown
            return text in self.shown[after:]

        wait_until(shown)
        return self.shown.index(text, after) + len(text)

    def finish(self) -> tuple[int, bytes]:
        """Exit code and what a stdout that is a pipe got."""
        try:
            out, _ = self.process.communicate(timeout=HANG)
        finally:
            self.process.kill()
            self._reader.join(HANG)
        return self.process.returncode, out or b""


def on_screen(shown: bytes) -> str:
    """What remains visible: a carriage return goes back to the beginning of the line."""
    lines = []
    for line in shown.decode().replace("\r\n", "\n").split("\n"):
        visible: list[str] = []
        for part in line.split("\r"):
            visible[: len(part)] = part
        lines.append("".join(visible).rstrip())
    return "\n".join(lines)
