"""Calls the command line in this process, with a stdin of its own."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from llamaq.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: bytes
    err: str


class Command:
    """``command("run", "model.gguf", stdin=b"...")`` runs ``llamaq run model.gguf``."""

    def __init__(self, capture: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capture = capture
        self._monkeypatch = monkeypatch

    def __call__(self, *argv: object, stdin: bytes = b"") -> Outcome:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capture.readouterr()
        code = main([str(arg) for arg in argv])
        out, err = self._capture.readouterr()
        return Outcome(code, out, err.decode())
