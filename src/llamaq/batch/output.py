"""The output of a batch: lines are kept as they come, so that a stopped run goes on, and appear in order at the end."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import open_file, reason
from llamaq.errors import LlamaqError

__all__ = ["Output"]

_MISSING = -1


class Output:
    """The lines of the requests ``ids``, whose order is that of the file ``path`` in the end; until then they lie in
    ``partial`` beside it, in any order. What either file has already is kept, but for answers that failed through no
    fault of the request (status 500 and above). Use it as a context manager.

    Raises ``LlamaqError`` where one of the files has answers to other requests, or cannot be written.
    """

    def __init__(self, path: Path, ids: Iterable[str]) -> None:
        self.partial = path.with_name(f"{path.name}.partial")
        self.failed: set[str] = set()
        """Requests whose answer is an error."""
        self._path = path
        self._places = dict.fromkeys(ids, _MISSING)
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise LlamaqError(f"{path}: expected a file to write to, got something else; give the name of a file")
        try:
            self._file: BinaryIO = open(self.partial, "a+b")  # noqa: SIM115 - closed by the context
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._take_partial()
            self._take_finished()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = self._file.seek(0, os.SEEK_END) == 0
        self._file.close()
        if empty:
            self.partial.unlink()

    @property
    def total(self) -> int:
        return len(self._places)

    @property
    def done(self) -> int:
        """Requests whose lines are there."""
        return sum(place != _MISSING for place in self._places.values())

    def has(self, id: str) -> bool:
        return self._places[id] != _MISSING

    def add(self, id: str, line: str) -> None:
        """Keeps a line, which is on its way to the disk then, whatever becomes of this process."""
        raw = line.encode() + b"\n"
        try:
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(raw)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error
        self._note(id, json.loads(raw), place)

    def finish(self) -> None:
        """Writes the file, whole and in order, and removes what it was made of."""
        with atomic_file(self._path) as file:
            for place in self._places.values():
                self._file.seek(place)
                file.write(self._file.readline())
        self._file.truncate(0)

    def _take_partial(self) -> None:
        """Notes what a stopped run has left; a line that it did not finish goes."""
        self._file.seek(0)
        place = 0
        while line := self._file.readline():
            if not line.endswith(b"\n"):
                self._file.truncate(place)
                break
            self._take(line, place, self.partial)
            place += len(line)

    def _take_finished(self) -> None:
        """Takes over what the file itself has: of a run that was finished, before its input grew."""
        if not self._path.exists():
            return
        with open_file(self._path) as file:
            for line in file:
                found = self._take(line, _MISSING, self._path)
                if found is not None and not self.has(found["id"]) and not _may_end_otherwise(found):
                    self.add(found["id"], line.decode().rstrip("\r\n"))

    def _take(self, line: bytes, place: int, path: Path) -> dict[str, Any] | None:
        """Notes a line of this batch; None for one that broke off when the machine failed."""
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            if path == self.partial or not line.endswith(b"\n"):
                return None
            found = {}
        if not isinstance(found, dict) or found.get("id") not in self._places:
            raise LlamaqError(
                f"{path}: expected answers to this input, of this model with these options, got others; give the same "
                "again, another output, or remove the file"
            )
        if place != _MISSING and not _may_end_otherwise(found):
            self._note(found["id"], found, place)
        return found

    def _note(self, id: str, line: dict[str, Any], place: int) -> None:
        self._places[id] = place
        is_error = line.get("error") is not None or _status(line) >= 400
        (self.failed.add if is_error else self.failed.discard)(id)

    def _refused(self, error: OSError) -> LlamaqError:
        return LlamaqError(f"{self.partial}: cannot be written: {reason(error, 'write to another folder')}")


def _status(line: dict[str, Any]) -> int:
    response = line.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    return status if isinstance(status, int) else 0


def _may_end_otherwise(line: dict[str, Any]) -> bool:
    return _status(line) >= 500
