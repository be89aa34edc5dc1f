"""What Windows does otherwise. No machine of CI has it: its answers are made up here by monkeypatching."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaq.boundary.atomic import atomic_file
from llamaq.errors import DownloadError, LlamaqError
from llamaq.hub.web import _alone


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")


def test_a_file_in_use_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(os, "replace", refuse)
    in_use = "Access is denied; Windows replaces no file that is in use: close what has it open"
    with pytest.raises(LlamaqError, match=in_use), atomic_file(tmp_path / "model.gguf") as file:
        file.write(b"GGUF")
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[Any, ...]] = []

    def locking(*arguments: Any) -> None:
        if taken:
            raise PermissionError(13, "Permission denied")
        taken.append(arguments)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    target = tmp_path / "model.gguf"
    with _alone(target):
        assert taken[0][1:] == (2, 1)
        with pytest.raises(DownloadError, match="another process fetches it"), _alone(target):
            raise AssertionError("two at once")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_shown_without_termios(monkeypatch: pytest.MonkeyPatch) -> None:
    from llamaq.cli.chat.rich_screen import _typing_unseen

    monkeypatch.setitem(sys.modules, "termios", None)
    with _typing_unseen():
        pass
