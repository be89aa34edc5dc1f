"""The chat's loop: a message or a command, an answer, and again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llamaq.boundary.words import counted
from llamaq.cli.chat.commands import Commands, context_bar, in_words
from llamaq.cli.chat.plain import PlainScreen
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.chat import ChatMessage
    from llamaq.cli.chat.conversation import Conversation
    from llamaq.cli.chat.kept import Kept

__all__ = ["chat"]

_WITHOUT_EXTRA = "pip install 'llamaq[chat]' adds Markdown, history and editing of many lines"


def chat(
    conversation: Conversation,
    first: str = "",
    *,
    single_turn: bool = False,
    verbose: bool = False,
    tell: Callable[[Exception], str] = str,
    kept: Kept | None = None,
    pictures: Sequence[Path] = (),
) -> int:
    """Chats until the user leaves, from the message ``first`` on if there is one; the exit code. ``tell`` words the
    errors of answers; ``kept`` is where the chat is kept; ``pictures`` go with the first message."""
    screen = _screen()
    commands = Commands(conversation, screen.say, screen.keys, kept)
    keep = _Keeper(conversation, screen, kept)
    commands.verbose = verbose
    screen.begin(commands.names, lambda: context_bar(conversation.used, conversation.llm.n_ctx))
    screen.say(_greeting(conversation, kept))
    for path in pictures:
        commands.show(path)
    text = first
    while True:
        try:
            text = text or screen.read()
        except EOFError:
            return 0
        except KeyboardInterrupt:
            screen.say("Ctrl-D or /bye leaves")
            continue
        text, line = "", text.strip()
        if not line:
            continue
        if commands.takes(line):
            action = commands.run(line)
        else:
            conversation.ask(commands.message(line), commands.pictures())
            action = "answer"
        if action == "leave":
            return 0
        if action == "answer":
            _answer(conversation, screen, commands, tell)
        keep()
        if action == "answer" and single_turn:
            return 0


def _answer(
    conversation: Conversation, screen: PlainScreen, commands: Commands, tell: Callable[[Exception], str]
) -> None:
    try:
        with screen.answering() as show:
            reason = conversation.answer(show.event, show.progress, show.looking)
    except (LlamaqError, ValueError) as error:
        screen.say(f"{tell(error)}\n(the message is taken back)")
        return
    if reason is None and not (conversation.messages and conversation.messages[-1].role == "assistant"):
        screen.say("(stopped before it began; the message is taken back)")
    elif reason is None:
        screen.say("(stopped here by Ctrl-C; /regen answers anew)")
    if reason == "context":
        screen.say(f"the context of {conversation.llm.n_ctx} tokens is full (-c sets a longer one); /undo or /clear")
    elif reason == "length":
        most = counted(conversation.max_tokens or 0, "token")
        screen.say(f"({most}, as many as an answer may have; /set max_tokens N changes that)")
    if commands.verbose:
        commands.run("/stats")


class _Keeper:
    """Keeps the chat and its settings; says once where that cannot be done."""

    def __init__(self, conversation: Conversation, screen: PlainScreen, kept: Kept | None) -> None:
        self._conversation, self._screen, self._kept = conversation, screen, kept
        self._said = self._now()
        if kept is not None:
            kept.watch(conversation)

    def __call__(self) -> None:
        if self._kept is None:
            return
        try:
            self._kept.notice(self._conversation)
            if self._said != self._now():
                self._said = self._now()
                self._kept.save(self._conversation)
        except LlamaqError as error:
            self._screen.say(f"the chat is not kept: {error}")
            self._kept = None

    def _now(self) -> tuple[list[ChatMessage], bool]:
        return self._conversation.said, self._conversation.interrupted


def _greeting(conversation: Conversation, kept: Kept | None) -> str:
    metadata = conversation.llm.metadata
    name = metadata.get("general.name") or metadata.get("general.basename") or "the model"
    lines = [f"{name}, context of {conversation.llm.n_ctx} tokens. /help lists commands, Ctrl-D leaves."]
    if conversation.messages:
        count = counted(len(conversation.messages), "message")
        stopped = " (Ctrl-C ended it; /regen answers anew)" if conversation.interrupted else ""
        lines.append(f"Going on after {count}: {_begin(conversation.messages[-1].content)}{stopped}")
    if kept is not None and (holding := kept.holding(conversation)):
        settings = ", ".join(f"{name} {in_words(conversation, name)}" for name in holding)
        lines.append(f"As set in an earlier chat: {settings}. /set forget takes that back.")
    return "\n".join(lines)


def _begin(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:60]}..."


def _screen() -> PlainScreen:
    """A screen with Markdown and an editor where the extra is installed and the terminal can do more than lines."""
    import os

    if os.environ.get("TERM") == "dumb":
        return PlainScreen()
    try:
        from llamaq.cli.chat.rich_screen import RichScreen
    except ModuleNotFoundError:
        print(f"llamaq: {_WITHOUT_EXTRA}", file=sys.stderr)
        return PlainScreen()
    return RichScreen()
