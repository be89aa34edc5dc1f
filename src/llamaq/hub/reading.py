"""Small files that other programs wrote: nothing in them is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamaq.boundary import files
from llamaq.errors import ModelError

__all__ = ["read_json", "read_small"]

MOST_BYTES = 1 << 20
"""Of a manifest, of a system message, of settings."""


def read_small(path: Path) -> bytes:
    """All of a file. Raises ``ModelError`` where it cannot be read or is larger than such a file can be."""
    return files.read_small(path, MOST_BYTES, ModelError)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ``ModelError``."""
    try:
        found = json.loads(read_small(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected JSON: {error!s:.200}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got another value")
    return found
