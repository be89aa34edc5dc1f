"""Where the shared test material lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["ROOT", "SHARED", "shared_path"]

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LLAMAQ_SHARED", ROOT.parent / "shared"))


def shared_path(name: str) -> Path:
    """A folder or file of the project's shared test material; skips where a user's clone has none."""
    path = SHARED / name
    if not path.exists():
        message = f"{name}: the shared test material is not beside this checkout"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
