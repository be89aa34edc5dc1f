"""Bars: Ctrl-C leaves nothing of them on the screen, wherever it comes."""

from __future__ import annotations

import io
import sys

import pytest

from llamaq.cli.progress import Bar
from terminal import on_screen


class Interrupted(io.StringIO):
    """A terminal on which Ctrl-C comes once, right after operation number ``at``: a write or a flush."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        count = super().write(text)
        self._interrupt()
        return count

    def flush(self) -> None:
        super().flush()
        self._interrupt()

    def _interrupt(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def reads(terminal: Interrupted) -> None:
    with Bar("reading", " tokens") as bar:
        for done in range(0, 101, 20):
            bar(done, 100)


def test_a_bar_is_gone_wherever_ctrl_c_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 0
    while True:
        at += 1
        terminal = Interrupted(at)
        monkeypatch.setattr(sys, "stderr", terminal)
        try:
            reads(terminal)
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            monkeypatch.undo()
        assert on_screen(terminal.getvalue().encode()).strip() == "", (at, terminal.getvalue())
    assert "reading:   0%" in terminal.getvalue()
    assert at > 4  # these are the first drawing, later ones, and the end
