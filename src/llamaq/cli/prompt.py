"""The text that a command works on: from its arguments, a file, or what is piped to stdin."""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
from typing import TextIO

from llamaq.boundary.files import decode_text, read_limited, read_text

__all__ = ["file_text", "is_terminal", "prompt_text", "read_stdin", "unescaped"]

_SILENCE = 1.0  # seconds that a pipe may stay silent where there is a prompt without it

_ESCAPE = re.compile(r"\\(?:([ntr\\'\"])|x([0-9A-Fa-f]{1,2}))")
_CHARACTERS = {"n": "\n", "t": "\t", "r": "\r"}


def prompt_text(args: argparse.Namespace) -> str:
    """The prompt of ``llamaq run``; bytes that are not UTF-8 are surrogates (PEP 383).

    Raises ``LlamaqError`` where a file cannot be read.
    """
    given = [text for text in (args.prompt, args.prompt_option) if text is not None]
    if len(given) + (args.file is not None) > 1:
        args.parser.error("the prompt is given twice: use one of PROMPT, -p and -f")
    parts = [unescaped(text) if args.escape else text for text in given]
    if args.file is not None and args.file != "-":
        parts.append(file_text(args.file))
    if args.file == "-" or (not is_terminal(sys.stdin) and (not parts or _stdin_speaks())):
        piped = file_text("-")
        parts += [piped] if piped or not parts else []
    return "\n".join(parts)


def file_text(name: str, *, exact: bool = True) -> str:
    """What a file (``-``: stdin) holds, without the one newline that editors and ``echo`` put at the end.

    ``exact`` and errors as for `read_text`.
    """
    text = decode_text(read_stdin(), "stdin", exact=exact) if name == "-" else read_text(name, exact=exact)
    return re.sub(r"\r?\n\Z", "", text, count=1)


def read_stdin() -> bytes:
    """All of stdin, exactly; nothing where it is closed."""
    return b"" if sys.stdin is None else read_limited(sys.stdin.buffer, "stdin")


def unescaped(text: str) -> str:
    r"""``text`` with \n, \t, \r, \\, \', \" and \xHH made into the characters; other backslashes stay.

    \xHH is a byte: two of them may be one UTF-8 character.
    """

    def character(found: re.Match[str]) -> str:
        if found[1]:
            return _CHARACTERS.get(found[1], found[1])
        code = int(found[2], 16)
        return chr(code if code < 0x80 else 0xDC00 + code)

    return _ESCAPE.sub(character, text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def is_terminal(file: TextIO | None) -> bool:
    """Whether a person sits there."""
    return file is not None and file.isatty()


def _stdin_speaks() -> bool:
    """Whether stdin has data or an end. Programs often start others with a pipe that they never close; where
    there is a prompt without it, such a pipe must not be waited for."""
    if sys.stdin is None or os.name == "nt":  # Windows cannot wait for a pipe
        return sys.stdin is not None
    try:
        ready, _, _ = select.select([sys.stdin], [], [], _SILENCE)
    except (OSError, ValueError):  # stdin has no descriptor
        return True
    if not ready:
        print(
            "llamaq: nothing came from stdin, so the prompt stands alone (</dev/null saves the wait)", file=sys.stderr
        )
    return bool(ready)
