"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llamaq.boundary.files import read_text
from llamaq.cli.output import speed
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.cli.chat.conversation import Conversation
    from llamaq.cli.chat.kept import Kept

__all__ = ["Action", "Commands", "context_bar"]

Action = Literal["stay", "answer", "leave"]

_ALIASES = {"?": "help", "exit": "bye", "quit": "bye", "read": "file"}
_NAMES = {
    "temp": "temperature",
    "typical": "typical_p",
    "top_nsigma": "top_n_sigma",
    "dynatemp_exp": "dynatemp_exponent",
    "mirostat_ent": "mirostat_tau",
    "mirostat_lr": "mirostat_eta",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
}
_KEYS = """\
Enter        sends; Alt-Enter begins a new line, and so does Enter after \"\"\" until \"\"\"
Up, Down     what you said before; Ctrl-R searches it
Ctrl-C       stops an answer, or takes back what is typed
Ctrl-D       leaves
Ctrl-G       opens the message in your editor"""


class Commands:
    """Carries out commands; what they have to tell goes to ``say``."""

    def __init__(self, conversation: Conversation, say: Callable[[str], None], kept: Kept | None = None) -> None:
        self.verbose = False
        self._kept = kept
        self._chat = conversation
        self._say = say
        self._attached: list[str] = []
        self._table: dict[str, tuple[str, str, Callable[[str], Action | None]]] = {
            "help": ("", "show this", self._help),
            "set": (
                "[NAME VALUE]",
                "show or change settings: temperature, seed, max_tokens, think, format json, ...",
                self._set,
            ),
            "system": ("[TEXT]", "show or change the system message", self._system),
            "save": ("FILE", "write the conversation to a file", self._save),
            "load": ("FILE", "go on with the conversation of a file", self._load),
            "history": ("[N]", "show earlier chats with this model, or go on with one", self._history),
            "clear": ("", "forget the conversation", self._clear),
            "regen": ("", "answer the latest message anew", self._regen),
            "undo": ("", "take back the latest message and its answer", self._undo),
            "stats": ("", "tokens and speeds of the latest answer", self._stats),
            "context": ("", "how full the context is", self._context),
            "file": ("PATH", "put a file's text before the next message", self._file),
            "bye": ("", "leave", lambda _: "leave"),
        }

    @property
    def names(self) -> list[str]:
        """All commands, with their slashes."""
        return [f"/{name}" for name in self._table]

    def run(self, line: str) -> Action:
        """What to do after the command ``line``; its errors are told."""
        name, _, argument = line.strip()[1:].partition(" ")
        name = _ALIASES.get(name, name)
        if name not in self._table:
            self._say(f"there is no command /{name}; /help lists them (a message cannot begin with a slash)")
            return "stay"
        try:
            return self._table[name][2](argument.strip()) or "stay"
        except (LlamaqError, OSError, ValueError) as error:
            self._say(str(error))
            return "stay"

    def message(self, text: str) -> str:
        """What the user's text amounts to: after the files that were put before it."""
        parts, self._attached = [*self._attached, text], []
        return "\n\n".join(parts)

    def _help(self, argument: str) -> None:
        rows = [(f"/{name} {usage}".strip(), about) for name, (usage, about, _) in self._table.items()]
        self._say("\n".join([*(f"{row:<20}{about}" for row, about in rows), "", _KEYS]))

    def _set(self, argument: str) -> None:
        name, _, value = argument.removeprefix("parameter ").partition(" ")
        name = _NAMES.get(name, name)
        if name in ("think", "nothink"):
            self._chat.template_kwargs["enable_thinking"] = name == "think"
        elif name in ("verbose", "quiet"):
            self.verbose = name == "verbose"
        elif name == "system":
            self._system(value)
        elif name == "forget" and self._kept is not None:
            self._kept.forget()
            self._say("the next chat with this model begins with its own settings")
        elif name in ("format", "noformat"):
            self._format(value if name == "format" else "none")
        elif name == "max_tokens" and value:
            count = int(value)
            self._chat.max_tokens = None if count < 0 else count
        elif name and value:
            self._chat.sampling = _changed(self._chat.sampling, name, value.strip())
        elif name:
            raise ValueError(f"{name} is {_shown(self._chat, name)}; /set {name} VALUE changes it")
        else:
            names = [field.name for field in dataclasses.fields(self._chat.sampling)]
            self._say("\n".join(f"{name:<24}{_shown(self._chat, name)}" for name in ["max_tokens", *names]))

    def _format(self, kind: str) -> None:
        from llamaq.structure import json_object

        if kind not in ("json", "none"):
            raise ValueError(f"/set format takes json, and /set noformat ends it; got {kind!r}")
        structure = json_object() if kind == "json" else None
        self._chat.sampling = dataclasses.replace(self._chat.sampling, structure=structure)

    def _system(self, argument: str) -> None:
        if argument:
            self._chat.system = argument.removeprefix('"""').removesuffix('"""')
            self._chat.changed()
        else:
            self._say(self._chat.system or "there is no system message; /system TEXT sets one")

    def _save(self, argument: str) -> None:
        self._chat.save(_path(argument))
        self._say(f"{len(self._chat.messages)} messages are in {argument}")

    def _load(self, argument: str) -> None:
        self._chat.load(_path(argument))
        self._say(f"{len(self._chat.messages)} messages of {argument}: {self._chat.tokens()} tokens")

    def _history(self, argument: str) -> None:
        if self._kept is None:
            raise ValueError("no chats are kept here")
        if argument:
            self._kept.resume(self._chat, int(argument) if argument.isdecimal() and len(argument) < 9 else 0)
            self._say(f"{len(self._chat.messages)} messages: {self._chat.tokens()} tokens")
        else:
            self._say(self._kept.table())

    def _clear(self, argument: str) -> None:
        self._chat.clear()
        self._attached.clear()
        self._say("the conversation is forgotten")

    def _regen(self, argument: str) -> Action:
        if self._chat.again():
            return "answer"
        raise ValueError("there is nothing to answer yet")

    def _undo(self, argument: str) -> None:
        message = self._chat.undo()
        self._say("there is nothing to take back" if message is None else f"taken back: {message.content[:60]}")

    def _stats(self, argument: str) -> None:
        if self._chat.latest is None:
            raise ValueError("there is no answer yet")
        usage = self._chat.latest.usage
        read, written = usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens
        rows = {
            "prompt": f"{usage.prompt_tokens} tokens, {usage.cached_tokens} cached, {read} read "
            + speed(read, usage.prompt_seconds),
            "answer": f"{written} tokens {speed(written, usage.completion_seconds)}",
            "so far": f"{self._chat.totals[0]} tokens read, {self._chat.totals[1]} written",
        }
        self._say("\n".join(f"{name:<10}{value}" for name, value in rows.items()))

    def _context(self, argument: str) -> None:
        self._say(f"{context_bar(self._chat.used, self._chat.llm.n_ctx)}, {len(self._chat.messages)} messages")

    def _file(self, argument: str) -> None:
        path = _path(argument)
        text = read_text(path, pipes=False)
        self._attached.append(f"{path.name}:\n```\n{text.rstrip()}\n```")
        count = len(self._chat.llm.tokenizer.encode(text, add_special=False))
        self._say(f"{path.name}, {count} tokens, goes before your next message")


def context_bar(used: int, total: int) -> str:
    """``[###-------] 300 of 1000 tokens``."""
    filled = min(10, round(10 * used / total))
    return f"[{'#' * filled}{'-' * (10 - filled)}] {used} of {total} tokens"


def _path(argument: str) -> Path:
    if not argument:
        raise ValueError("the name of a file is missing")
    return Path(argument.strip("'\"")).expanduser()


def _shown(chat: Conversation, name: str) -> str:
    if name == "max_tokens":
        return "as many as fit" if chat.max_tokens is None else str(chat.max_tokens)
    if not hasattr(chat.sampling, name):
        raise ValueError(f"there is no setting {name!r}; /set lists them")
    return str(getattr(chat.sampling, name))


def _changed(sampling: Any, name: str, value: str) -> Any:
    """Settings with one that the user typed; ``ValueError`` where there is none or it cannot be that."""
    kind = {field.name: str(field.type) for field in dataclasses.fields(sampling)}.get(name)
    if kind is None:
        raise ValueError(f"there is no setting {name!r}; /set lists them")
    typed: Any = value
    if kind == "bool":
        typed = value.lower() in ("1", "true", "on", "yes")
    elif kind == "float":
        typed = float(value)
    elif kind == "int":
        typed = int(value)
    elif kind == "int | None":
        typed = None if int(value) < 0 else int(value)
    elif not kind.startswith("str"):
        raise ValueError(f"{name} cannot be set here")
    return dataclasses.replace(sampling, **{name: typed})
