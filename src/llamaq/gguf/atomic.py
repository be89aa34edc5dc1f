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

    Until then it has no name where the system can do that (Linux), and nothing is left of it even if the process
    is killed; elsewhere it lies beside ``path`` under a name that ends in ``.partial``, which an exception
    removes. Raises GGUFError for whatever the disk refuses.
    """
    if path.is_dir():
        raise GGUFError(f"{path}: cannot be written: it is a folder; give the name of a file in it")
    partial = path.with_name(f"{path.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        try:
            nameless = _nameless(path.parent)
            with nameless or open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if nameless:
                    # Python follows the link to the file itself only in the form with a descriptor of a folder.
                    source = f"/proc/self/fd/{file.fileno()}"
                    os.link(source, partial, src_dir_fd=file.fileno(), follow_symlinks=True)
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)
        _sync_folder(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "write to another folder")
        raise GGUFError(f"{path}: cannot be written: {error.strerror}; {remedy}") from error


def _nameless(folder: Path) -> BinaryIO | None:
    """A file in the folder that has no name yet; None where system or file system have no such thing."""
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.fdopen(os.open(folder, flag | os.O_WRONLY, 0o666), "wb")
    except OSError:  # what is wrong with the folder is told by the file with a name
        return None


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power cut, where a folder can be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
