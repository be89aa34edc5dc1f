"""Answers kept in a folder as they come, so that a job that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from llamaq.boundary.files import open_file, reason
from llamaq.errors import LlamaqError

__all__ = ["KeptAnswers"]

_SUFFIX = ".answers.jsonl"


class KeptAnswers:
    """The answers that lie in a folder, by keys that say all that each depends on. Many processes may keep theirs in
    one: each adds to a file of its own, and reads those of the others.

    Raises ``LlamaqError`` where the folder cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._own = self._folder / f"{uuid4().hex}{_SUFFIX}"
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._read: dict[Path, int] = {}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from None

    def look(self) -> None:
        """Learns of what has come since the last time."""
        try:
            found = [entry for entry in os.scandir(self._folder) if entry.name.endswith(_SUFFIX)]
            for entry in found:
                path = Path(entry.path)
                if entry.stat().st_size > self._read.get(path, 0):
                    self._read_on(path)
        except OSError as error:
            raise self._refused(error) from None

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer with this key; None where there is none yet."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        path, begin = place
        try:
            with open_file(path) as file:
                file.seek(begin)
                found = _entry(file.readline())
        except (LlamaqError, OSError):
            found = None
        return None if found is None or found[0].hex() != key else found[1]  # somebody may have changed the file

    def add(self, key: str, answer: dict[str, Any]) -> None:
        """Keeps an answer, which is on its way to the disk then, whatever becomes of this process."""
        raw = json.dumps({"key": key, "answer": answer}).encode() + b"\n"
        try:
            with open(self._own, "ab") as file:
                place = file.tell()
                file.write(raw)
        except OSError as error:
            raise self._refused(error) from None
        self._places[bytes.fromhex(key)] = self._own, place
        self._read[self._own] = place + len(raw)

    def _read_on(self, path: Path) -> None:
        with open_file(path) as file:
            place = file.seek(self._read.get(path, 0))
            while (line := file.readline()).endswith(b"\n"):  # its writer may not have finished the last one
                if (found := _entry(line)) is not None:
                    self._places.setdefault(found[0], (path, place))
                place += len(line)
        self._read[path] = place

    def _refused(self, error: OSError) -> LlamaqError:
        return LlamaqError(
            f"{self._folder}: answers cannot be kept there: {reason(error, 'give a folder that can be written')}"
        )


def _entry(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """The key and answer of a line; None for one that broke off when a machine failed."""
    try:
        found = json.loads(line)
        answer = found["answer"]
        return (bytes.fromhex(found["key"]), answer) if isinstance(answer, dict) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
