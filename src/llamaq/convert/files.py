"""Files of a checkpoint's folder: read once, up to a size, and refused by name where they are no files of their own."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from llamaq.errors import ModelError

__all__ = ["read_bytes", "read_text", "refuse_pointer"]

MiB = 1 << 20
_POINTER = b"version https://git-lfs.github.com/spec/"
_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path, most: int = 16 * MiB) -> bytes | None:
    """The content of a regular file of up to ``most`` bytes; None where there is no file.

    Raises ModelError for anything else, and for a file that Git LFS left in the place of the real one.
    """
    try:
        if not path.exists():
            return None
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: expected a regular file, got a folder or a device; download it again")
        with path.open("rb") as file:
            found = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    refuse_pointer(path, found)
    if len(found) > most:
        raise ModelError(f"{path}: expected up to {most // MiB} MiB, got more; such a file is no model's")
    return found


def read_text(path: Path) -> str | None:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; None where there is none."""
    found = read_bytes(path)
    if found is None:
        return None
    encoding = next((name for mark, name in _MARKS if found.startswith(mark)), "utf-8")
    try:
        return found.decode(encoding)
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: expected text in UTF-8: {error}; download it again") from None


def refuse_pointer(path: Path, head: bytes) -> None:
    """Raises ModelError where a file that begins with ``head`` is a pointer of Git LFS."""
    if head.startswith(_POINTER):
        raise ModelError(f"{path}: expected the file itself, got its Git LFS pointer; fetch the file: git lfs pull")
