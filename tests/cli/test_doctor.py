"""``llamaq doctor``: for people and as JSON, and nothing of it personal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from command import Command
from llamaq import __version__, _core


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def test_text(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAQ_ISA", "scalar")
    monkeypatch.setenv("LLAMAQ_MODELS", f"{Path.home()}/models")
    done = command("doctor")
    assert (done.code, done.err) == (0, "")
    out = done.out.decode()
    rows = dict(line.split(maxsplit=1) for line in out.partition("\n\n")[0].splitlines() if line[0] != " ")
    assert rows["llamaq"] == f"{__version__} ({_core.BUILD})"
    assert rows["level"] == f"scalar, of {', '.join(_core.isas())}"
    assert " GB/s out of memory, " in rows["speed"]
    assert rows["[structure]"].startswith("llguidance ")
    assert (rows["LLAMAQ_ISA"], rows["LLAMAQ_MODELS"]) == ("scalar", "(set)")
    if len(_core.isas()) > 1:
        assert "\nWhat would make it faster:\n* LLAMAQ_ISA holds llamaq to scalar; " in out


def test_json(command: Command) -> None:
    done = command("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["levels"] == _core.isas()
    assert found["limits"]["read_bandwidth"] > 0
    assert isinstance(found["advice"], list)


def test_a_load_that_the_system_does_not_tell(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made up: CI's machines tell theirs, and a chroot without /proc does not."""

    def unknown() -> tuple[float, float, float]:
        raise OSError("the load average cannot be found out")

    monkeypatch.setattr(os, "getloadavg", unknown, raising=False)
    done = command("doctor", "--json")
    assert (done.code, json.loads(done.out)["load"]) == (0, None)


def test_nothing_personal(command: Command) -> None:
    out = command("doctor").out.decode()
    for secret in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert secret not in out
