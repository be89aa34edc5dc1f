"""Writing to stdout: UTF-8 whatever the locale says, and at once."""

from __future__ import annotations

import shutil
import sys

__all__ = ["TextOutput", "harmless", "size", "speed", "write"]

_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if code not in (9, 10)} | {13: ""}


def write(text: str | bytes) -> None:
    """Writes to stdout and flushes. In a str, U+DC80 to U+DCFF stand for bytes (PEP 383)."""
    if sys.stdout is None:
        raise OSError("standard output is closed")
    sys.stdout.buffer.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


class TextOutput:
    """Pieces of one text on stdout; ``end`` finishes its last line. A terminal gets no control characters of it."""

    def __init__(self) -> None:
        self._last = "\n"
        self._terminal = sys.stdout is not None and sys.stdout.isatty()

    @property
    def width(self) -> int:
        """Columns of a line; 0 where it is no terminal, so that nothing limits them."""
        return shutil.get_terminal_size().columns if self._terminal else 0

    def write(self, piece: str) -> None:
        if self._terminal:
            piece = harmless(piece)
        if piece:
            write(piece)
            self._last = piece[-1]

    def end(self) -> None:
        """Ends with a newline where the text does not (an empty text stays empty)."""
        if self._last != "\n":
            self.write("\n")


def harmless(text: str) -> str:
    """``text`` without what would command a terminal: models can be made to write escape sequences."""
    return text.translate(_CONTROLS)


def size(n: int) -> str:
    """Bytes for people: ``1.5 MiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n >= factor:
            return f"{n / factor:.2f} {unit}"
    return f"{n} B"


def speed(tokens: int, seconds: float) -> str:
    """Tokens a second for people: ``in 1.50 s, 20.0 tokens/s``."""
    return f"in {seconds:.2f} s, {tokens / seconds:.1f} tokens/s" if seconds > 0 else f"in {seconds:.2f} s"
