"""``llamaq cache``, and what the command line keeps on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Command
from llamaq.engine import bundled

QUESTION = "Tell me a story about a fox and a hen. " * 40


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.setenv("LLAMAQ_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("LLAMAQ_NOHISTORY", raising=False)
    return Command(capsysbinary, monkeypatch)


def ask(command: Command, *argv: object) -> tuple[bytes, bool]:
    """An answer, and whether some of the prompt came from the disk."""
    done = command("run", bundled.path(), "-p", QUESTION, "-n", 3, "--temp", 0, "-v", *argv)
    assert done.code == 0
    return done.out, "of them from the disk" in done.err


def test_chats_keep_what_they_have_read(command: Command, tmp_path: Path) -> None:
    first = ask(command)
    assert first[1] is False
    assert ask(command) == (first[0], True)
    assert ask(command, "--no-cache-dir") == first
    listed = command("cache").out.decode()
    assert "demo.gguf, cache f16" in listed
    assert f"{tmp_path / 'kept'}: " in listed
    (kept,) = json.loads(command("cache", "--json").out)
    assert kept["blocks"] == len(list((tmp_path / "kept").glob("*/*.block"))) > 0
    assert kept["about"]["numerics"] == "exact"
    assert command("cache", "--clear").out.startswith(b"removed ")
    assert list((tmp_path / "kept").glob("*/*.block")) == []
    assert ask(command)[1] is False


def test_others_keep_nothing_unasked(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(command, "-no-cnv") == ask(command, "-no-cnv")
    assert not (tmp_path / "kept").exists()
    other = tmp_path / "other"
    assert [ask(command, "-no-cnv", "--cache-dir", other)[1] for _ in range(2)] == [False, True]
    assert "demo.gguf" in command("cache", "--cache-dir", other).out.decode()
    monkeypatch.setenv("LLAMAQ_NOHISTORY", "1")
    assert [ask(command)[1] for _ in range(2)] == [False, False]
    assert not (tmp_path / "kept").exists()


def test_an_empty_cache(command: Command, tmp_path: Path) -> None:
    assert command("cache").out.decode().strip() == f"{tmp_path / 'kept'}: 0 B of at most 4.00 GiB"
    assert command("cache", "--clear").out.decode().strip() == f"removed 0 B from {tmp_path / 'kept'}"
