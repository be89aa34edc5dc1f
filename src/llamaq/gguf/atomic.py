"""A file that appears under its name whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llamaq.errors import GGUFError

__all__ = ["atomic_file"]

_REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EFBIG: "raise the limit on file sizes, or write to a file system that holds larger files",
    errno.ENOENT: "create the folder first",
}


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to; on leaving the block it is synced to the disk and takes the name ``path``.

    Until then it lies beside ``path`` under a name that ends in ``.partial``. An exception removes it; a
    killed process may leave it, but not under ``path``. Raises GGUFError for whatever the disk refuses.
    """
    if path.is_dir():
        raise GGUFError(f"{path}: cannot be written: it is a folder; give the name of a file in it")
    partial = path.with_name(f"{path.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        try:
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)
        _sync_folder(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "write to another folder")
        raise GGUFError(f"{path}: cannot be written: {error.strerror}; {remedy}") from error


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power cut, where a folder can be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
