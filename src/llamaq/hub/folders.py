"""Folders that hold models: where the system puts them, and what lies in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["existing", "from_environment", "gguf_files", "home", "user_data"]

MOST_ENTRIES = 100_000
"""Files and folders that are looked at in one place."""


def home(*parts: str) -> Path:
    """A path in the user's home folder."""
    return Path(os.path.expanduser("~"), *parts)


def from_environment(name: str) -> Path | None:
    """The path that an environment variable says; None where it is not set or empty."""
    value = os.environ.get(name)
    return Path(os.path.expanduser(value)) if value else None


def user_data() -> Path:
    """Where programs of this user keep their data on this system."""
    if sys.platform == "darwin":
        return home("Library", "Application Support")
    if os.name == "nt":
        return from_environment("LOCALAPPDATA") or home("AppData", "Local")
    return from_environment("XDG_DATA_HOME") or home(".local", "share")


def existing(*folders: Path | None) -> list[Path]:
    """Those that are there, each once."""
    found: dict[str, Path] = {}
    for folder in folders:
        if folder is not None and os.path.isdir(folder):
            found.setdefault(os.path.realpath(folder), folder)
    return list(found.values())


def gguf_files(folder: Path, depth: int) -> Iterator[Path]:
    """The GGUF files in a folder and ``depth`` levels of folders below it, by name.

    Links are followed, but no folder is entered twice, so a circle of them ends; what cannot be read or is too much
    (`MOST_ENTRIES`) is passed over.
    """
    seen: set[tuple[int, int]] = set()
    left = MOST_ENTRIES

    def walk(folder: Path, depth: int) -> Iterator[Path]:
        nonlocal left
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen and status.st_ino:
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                names = []
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return
                    names.append(entry.name)
        except OSError:
            return
        for name in sorted(names):
            path = folder / name
            if name.lower().endswith(".gguf"):
                if os.path.isfile(path):
                    yield path
            elif depth and os.path.isdir(path):
                yield from walk(path, depth - 1)

    yield from walk(folder, depth)
