"""The model that comes with llamaq, for whoever has none yet."""

from __future__ import annotations

from pathlib import Path

from llamaq.errors import ModelError

__all__ = ["path"]

_FILE = Path(__file__).parents[1] / "data" / "demo.gguf"


def path() -> Path:
    """The path of the bundled model. Raises ``ModelError`` where this build has none."""
    if not _FILE.is_file():
        raise ModelError("this build of llamaq has no bundled model; name a GGUF file")
    return _FILE
