"""The chat on a terminal: Markdown as it comes, an editor with history, a context meter. Needs the extra ``chat``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import PathCompleter, WordCompleter, merge_completers
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from rich.console import Console
from rich.text import Text

from llamaq.cli.chat.kept import state_folder
from llamaq.cli.chat.live_answer import LiveAnswer
from llamaq.cli.chat.plain import PROMPT, QUOTES, AnswerView, PlainScreen
from llamaq.cli.output import harmless

__all__ = ["RichScreen", "history_path"]


_KEYS = """\
Enter        sends; Alt-Enter begins a new line, and so does Enter after \"\"\" until \"\"\"
Up, Down     what you said before; Ctrl-R searches it
Ctrl-C       stops an answer, or takes back what is typed
Ctrl-D       leaves
Ctrl-G       opens the message in your editor
"""
_INVITATION = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")


class RichScreen(PlainScreen):
    """What ``PlainScreen`` does, for people."""

    @property
    def keys(self) -> str:
        return _KEYS

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._session: PromptSession[str] | None = None

    def begin(self, commands: Sequence[str], meter: Callable[[], str]) -> None:
        self._session = PromptSession(
            history=_history(),
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation="... ",
            completer=merge_completers([WordCompleter(list(commands), sentence=True), _FilesCompleter()]),
            complete_while_typing=False,
            bottom_toolbar=lambda: f" {meter()}   Alt-Enter: new line   /help",
            placeholder=lambda: "" if get_app().is_done else _INVITATION,
        )

    def read(self) -> str:
        assert self._session is not None
        text = self._session.prompt([("bold fg:ansigreen", PROMPT)])
        stripped = text.strip()
        if stripped.startswith(QUOTES) and stripped.endswith(QUOTES) and len(stripped) >= 2 * len(QUOTES):
            return stripped[len(QUOTES) : -len(QUOTES)]
        return text

    def say(self, text: str) -> None:
        self._console.print(Text(harmless(text), style="dim"))

    @contextlib.contextmanager
    def answering(self) -> Iterator[AnswerView]:
        with _typing_unseen(), LiveAnswer(self._console) as view:
            yield view
        self._console.print()


def history_path() -> Path:
    """The file that keeps what the user typed between chats."""
    return state_folder() / "history"


@contextlib.contextmanager
def _typing_unseen() -> Iterator[None]:
    """Keys that are pressed during an answer wait for the next prompt, and do not tear the answer apart."""
    if sys.platform == "win32":  # consoles show no key that nobody reads
        yield
        return
    import termios

    try:
        before = termios.tcgetattr(0)
    except (OSError, termios.error):
        yield
        return
    unseen = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(0, termios.TCSADRAIN, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _history() -> History:
    """Kept in a file that its owner alone can read; in memory with LLAMAQ_NOHISTORY, or where no file can be."""
    if os.environ.get("LLAMAQ_NOHISTORY"):
        return InMemoryHistory()
    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(path)


class _FilesCompleter(PathCompleter):
    """Names of files after the commands that take one."""

    def get_completions(self, document: Document, complete_event: Any) -> Any:
        command, _, argument = document.text_before_cursor.partition(" ")
        if command in ("/file", "/save", "/load"):
            yield from super().get_completions(Document(argument), complete_event)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        text = event.current_buffer.text.strip()
        if text.startswith(QUOTES) and (len(text) < 2 * len(QUOTES) or not text.endswith(QUOTES)):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-g")
    def _(event: Any) -> None:
        event.current_buffer.open_in_editor()

    return keys
