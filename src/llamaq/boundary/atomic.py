"""A file that appears under its name whole, or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llamaq.boundary.files import reason
from llamaq.errors import LlamaqError

__all__ = ["atomic_file", "discard"]


@contextmanager
def atomic_file(path: Path, raises: type[LlamaqError] = LlamaqError) -> Iterator[BinaryIO]:
    """A binary file to write to; on leaving the block it is synced to the disk and takes the name ``path``.

    Until then it has no name where the system can do that (Linux), and nothing is left of it even if the process
    is killed; elsewhere it lies beside ``path`` under a name that ends in ``.partial``, which an exception
    removes. A symbolic link stays, and the file that it leads to is replaced. A device or a pipe cannot be: it is
    written to at once. Raises ``raises`` for whatever the disk refuses.
    """
    try:
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            raise raises(f"{path}: cannot be written: it is a folder; give the name of a file in it")
        regular = mode is None or stat.S_ISREG(mode)
        with _replacement(Path(os.path.realpath(path)), mode) if regular else _through(path) as file:
            yield file
    except OSError as error:
        raise raises(f"{path}: cannot be written: {reason(error, _remedy(error))}") from error


def _remedy(error: OSError) -> str:
    if sys.platform == "win32" and isinstance(error, PermissionError):
        return "Windows replaces no file that is in use: close what has it open, or write to another one"
    return "write to another folder"


def discard(path: Path) -> None:
    """Removes what `atomic_file` wrote to ``path``; links, devices and pipes stay."""
    target = os.path.realpath(path)
    if os.path.isfile(target):
        os.unlink(target)


def _mode(path: Path) -> int | None:
    """Kind of the file that the path leads to; None where there is none."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


@contextmanager
def _through(path: Path) -> Iterator[BinaryIO]:
    """What cannot be replaced, opened for writing. A pipe that nobody reads is an error, not waited for."""
    if sys.platform == "win32":
        with open(path, "wb") as file:
            yield file
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "wb") as file:
        os.set_blocking(descriptor, True)
        yield file


@contextmanager
def _replacement(path: Path, mode: int | None) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path``, which is no link, and the permissions of a file there (``mode``)."""
    partial = path.with_name(f"{path.name[:50]}.{secrets.token_hex(4)}.partial")
    try:
        nameless = _nameless(path.parent)
        with nameless or open(partial, "xb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                with suppress(OSError):
                    os.fchmod(file.fileno(), stat.S_IMODE(mode))
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
    """Makes the new name survive a power cut, where a folder can be opened and synced; the file is there anyway."""
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
