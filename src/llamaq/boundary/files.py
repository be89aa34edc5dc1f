"""Reading users' files: pipes are not waited for unasked, texts come as they were meant, errors say what to do."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from llamaq.errors import LlamaqError

__all__ = ["decode_text", "open_file", "read_limited", "read_small", "read_text", "reason"]

MOST_TEXT = 1 << 30
"""Bytes of a text; a pipe or a device may have no end."""

_REMEDIES = {
    errno.EMFILE: "close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "the whole system has too many: close some",
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EFBIG: "raise the limit on file sizes, or write to a file system that holds larger files",
    errno.ENOENT: "create the folder first",
    errno.ELOOP: "its links go in a circle: remove one",
    errno.ENXIO: "nobody reads the pipe: start its reader first",
}
_MARKS = (  # UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def reason(error: OSError, remedy: str) -> str:
    """What the system says, and what to do about it: ``remedy`` is used where the kind of the error does not tell."""
    return f"{error.strerror or error}; {_REMEDIES.get(error.errno or 0, remedy)}"


def open_file(
    path: str | os.PathLike[str], raises: type[LlamaqError] = LlamaqError, *, pipes: bool = False
) -> BufferedReader:
    """A file to read from; with ``pipes`` also a pipe or a device, which is waited for.

    Raises ``raises``, with the path and what to do, for what cannot be opened.
    """
    # O_NONBLOCK: a pipe must be refused, not waited for; O_BINARY: Windows would translate line ends
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | (0 if pipes else getattr(os, "O_NONBLOCK", 0))
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise raises(f"{path}: no such file; check the path") from None
    except PermissionError as error:
        remedy = "give a file in it" if Path(path).is_dir() else "ask for the right to read it"
        raise raises(f"{path}: cannot be opened: {reason(error, remedy)}") from None
    except OSError as error:
        raise raises(f"{path}: cannot be opened: {reason(error, 'check the path')}") from None
    except ValueError as error:
        raise raises(f"{str(path)!r}: cannot be opened: {error}; check the path") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode) or not (pipes or stat.S_ISREG(mode)):
        os.close(descriptor)
        got = "a folder; give a file in it" if stat.S_ISDIR(mode) else "a pipe or device; save it to a file first"
        raise raises(f"{path}: expected a file, got {got}")
    return os.fdopen(descriptor, "rb")


def read_small(path: str | os.PathLike[str], most: int, raises: type[LlamaqError]) -> bytes:
    """All of a file of ``most`` bytes or fewer. Raises ``raises`` for one that cannot be read or has more."""
    with open_file(path, raises) as file:
        try:
            found = file.read(most + 1)
        except OSError as error:
            raise raises(f"{path}: cannot be read: {reason(error, 'check the disk')}") from None
    if len(found) > most:
        raise raises(f"{path}: expected at most {most} bytes, got more; the file is not what its name says")
    return found


def read_text(path: str | os.PathLike[str], *, exact: bool = False, pipes: bool = True) -> str:
    """A user's text file (or pipe), as `decode_text`. Raises LlamaqError for what cannot be read or is no text."""
    with open_file(path, LlamaqError, pipes=pipes) as file:
        return decode_text(read_limited(file, str(path)), str(path), exact=exact)


def read_limited(file: BinaryIO, name: str) -> bytes:
    """All bytes to the end, which must come within ``MOST_TEXT``. Raises LlamaqError."""
    parts, left = [], MOST_TEXT
    try:
        while part := file.read(1 << 20):
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise LlamaqError(f"{name}: expected a text of at most {MOST_TEXT} bytes, got more; give a part of it")
    except OSError as error:
        raise LlamaqError(f"{name}: cannot be read: {reason(error, 'check the disk')}") from None
    return b"".join(parts)


def decode_text(raw: bytes, name: str, *, exact: bool = False) -> str:
    """Text in UTF-8, or in the encoding of its byte order mark, which goes; line ends become newlines.

    ``exact`` keeps line ends, and bytes that are not UTF-8 as surrogates (PEP 383). Raises LlamaqError, with
    the ``name``, for what is no text.
    """
    mark, encoding = next(((mark, encoding) for mark, encoding in _MARKS if raw.startswith(mark)), (b"", "utf-8"))
    if not mark and raw[:2].count(0) == 1 and len(raw) > 1:
        raise LlamaqError(
            f"{name}: expected text, got a zero byte at its beginning, as UTF-16 without a byte order mark has; "
            "save it as UTF-8"
        )
    try:
        text = raw[len(mark) :].decode(encoding, "surrogateescape" if exact and encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        at = len(mark) + error.start
        expected = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise LlamaqError(
            f"{name}: byte {at}: expected {expected}, got {raw[at : at + 4]!r}; save it as UTF-8"
        ) from None
    return text if exact else text.replace("\r\n", "\n").replace("\r", "\n")
