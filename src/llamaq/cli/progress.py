"""Progress, on stderr: where that is a terminal; long work tells elsewhere, too."""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import Any

__all__ = ["Bar", "Status", "looking_bar"]


_PAUSE = 10.0  # seconds between lines where there is no terminal
_clock = time.monotonic


class Bar:
    """A progress callback ``bar(done, total)`` that draws a bar, which vanishes when all is done.

    ``rate`` tells how much is done in a second. It appears with the first call that leaves something to do, so short
    work shows nothing. As a context manager it also vanishes when the work fails. With ``lines`` a stderr that is no
    terminal gets a line now and then.
    """

    def __init__(self, label: str, unit: str, *, binary: bool = False, rate: bool = False, lines: bool = False) -> None:
        self._label, self._unit, self._binary = label, unit, binary
        self._rate = "{rate_fmt}, " if rate else ""
        self._bar: Any = None
        self._lines = lines
        self._next = _clock() + _PAUSE

    def __call__(self, done: int, total: int) -> None:
        if done >= total:
            self.close()
        elif self._bar is None:
            if sys.stderr is not None and sys.stderr.isatty():
                self._bar = self._open(done, total)
                self._bar.refresh()
            elif self._lines and _clock() >= self._next and sys.stderr is not None:
                self._next = _clock() + _PAUSE
                print(f"llamaq: {self._label}: {100 * done / total:.0f} %", file=sys.stderr, flush=True)
        else:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            try:
                self._bar.close()
            finally:  # tqdm forgets what it has drawn where Ctrl-C comes right after, and closes but once
                _erase()
            self._bar = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, done: int, total: int) -> Any:
        from tqdm import tqdm

        bar = tqdm(
            desc=self._label,
            unit=self._unit,
            unit_scale=self._binary,
            unit_divisor=1024 if self._binary else 1000,
            # It stops short of the line's end: the ^C that a terminal echoes must not begin a new line.
            bar_format=f"{{desc}}: {{percentage:3.0f}}% |{{bar:20}}| {{n_fmt}}/{{total_fmt}}{{unit}}, {self._rate}"
            "{remaining} left",
            initial=done,
            total=total,
            leave=False,
            delay=1e-6,
            file=sys.stderr,
        )
        bar.delay = 0  # it draws nothing before ``close`` can take it away, should Ctrl-C come just now
        return bar


def looking_bar() -> Bar:
    """A bar for pictures that are read: the layers of the encoder that they are through."""
    return Bar("looking at the picture", " layers")


def _erase() -> None:
    """Blanks the line without escape sequences, which older consoles of Windows print."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        columns = 80
    print("\r" + " " * (columns - 1), end="\r", file=sys.stderr, flush=True)


class Status:
    """A line that says what is going on, until it is cleared."""

    def show(self, text: str) -> None:
        """Puts the text in place of what was shown before."""
        if sys.stderr is not None and sys.stderr.isatty():
            _erase()
            # It stops short of the line's end: the ^C that a terminal echoes must not begin a new line.
            print(text[: shutil.get_terminal_size().columns - 4], end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes it off the screen."""
        self.show("")

    def __enter__(self) -> Status:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
