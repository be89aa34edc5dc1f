"""The chat on a terminal that can do lines only, or without the extra ``chat``."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from llamaq.chat import ChatEvent
from llamaq.cli.chat.wrapping import WordWrap
from llamaq.cli.output import TextOutput, harmless
from llamaq.cli.progress import Bar, looking_bar

__all__ = ["PROMPT", "QUOTES", "AnswerView", "PlainScreen"]

PROMPT, MORE, QUOTES = ">>> ", "... ", '"""'


_KEYS = """\
Enter        sends; after \"\"\" it begins a new line, until \"\"\"
Ctrl-C       stops an answer, or takes back what is typed
Ctrl-D       leaves
"""
_EDITING = "Up, Down     what you said before; Ctrl-R searches it\n"


class AnswerView(Protocol):
    """Where an answer appears as it comes."""

    def event(self, event: ChatEvent) -> None:
        """The next piece."""

    def progress(self, done: int, total: int) -> None:
        """Tokens of the prompt read so far and in total."""

    def looking(self, done: int, total: int) -> None:
        """Layers of the encoder that pictures are through and in total."""


class PlainScreen:
    """Reads lines and writes text as it comes."""

    @property
    def keys(self) -> str:
        """What keys do here."""
        edits = importlib.util.find_spec("readline") is not None  # Windows has none
        return _KEYS + (_EDITING if edits else "")

    def begin(self, commands: Sequence[str], meter: Callable[[], str]) -> None:
        """Tells what there is to complete, and what to show of the context."""
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: F401 - input() edits with it

    def read(self) -> str:
        """What the user types next; ``EOFError`` and ``KeyboardInterrupt`` as ``input`` raises them."""
        text = input(PROMPT)
        if not text.lstrip().startswith(QUOTES):
            return text
        text = text.lstrip()[len(QUOTES) :]
        while not text.rstrip().endswith(QUOTES):
            text += "\n" + input(MORE)
        return text.rstrip()[: -len(QUOTES)]

    def say(self, text: str) -> None:
        """Something that is not the model's."""
        out = WordWrap(TextOutput().write, _width())
        out.write(harmless(text) + "\n")

    @contextlib.contextmanager
    def answering(self) -> Iterator[AnswerView]:
        """An answer follows."""
        with looking_bar() as looking, Bar("reading the prompt", " tokens") as bar:
            view = _PlainAnswer(bar, looking)
            try:
                yield view
            finally:
                view.end()


class _PlainAnswer:
    def __init__(self, bar: Bar, looking: Bar) -> None:
        self._bar, self._looking = bar, looking
        self._out = TextOutput()
        self._lines = WordWrap(self._out.write, _width())
        self._reasons = False

    def event(self, event: ChatEvent) -> None:
        if event.reasoning and not self._reasons:
            self._lines.write("(thinking)\n")
            self._reasons = True
        if event.text and self._reasons:
            self._lines.flush()
            self._out.end()
            self._lines = WordWrap(self._out.write, _width())
            self._lines.write("(answering)\n")
            self._reasons = False
        self._lines.write(event.reasoning + event.text)

    def progress(self, done: int, total: int) -> None:
        self._bar(done, total)

    def looking(self, done: int, total: int) -> None:
        self._looking(done, total)

    def end(self) -> None:
        self._lines.flush()
        self._out.end()


def _width() -> int:
    return shutil.get_terminal_size().columns
