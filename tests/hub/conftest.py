"""A home folder of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_places import Places


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return Places(tmp_path / "home", monkeypatch)
