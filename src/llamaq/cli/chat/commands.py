"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from llamaq.boundary.files import read_text
from llamaq.boundary.words import counted
from llamaq.cli.output import speed
from llamaq.errors import ImageError, LlamaqError

if TYPE_CHECKING:
    from llamaq.cli.chat.conversation import Conversation
    from llamaq.cli.chat.kept import Kept

__all__ = ["Action", "Commands", "context_bar", "in_words"]

T = TypeVar("T")
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
_AT_START = {"num_ctx": "-c N", "num_batch": "-b N", "num_thread": "-t N", "stop": "-r TEXT"}
"""Ollama's names of what holds for a whole chat, and the options of ``llamaq run`` that set it."""
_OUTSIDE = {"show": "llamaq show MODEL"}
"""Commands in Ollama's chat, and what does the same outside of this one."""
_UNSET = ("logit_processors",)
"""What nobody can set or see here."""
_SWITCH = "enable_thinking"
"""The variable that templates have for reasoning, where they have one."""
_FLAGS = {"1": True, "true": True, "on": True, "yes": True, "0": False, "false": False, "off": False, "no": False}

_LIKE = 0.75
"""How near to a command's name a word must be to be taken for a slip."""


class Commands:
    """Carries out commands; what they have to tell goes to ``say``. ``keys`` says what keys do."""

    def __init__(
        self, conversation: Conversation, say: Callable[[str], None], keys: str = "", kept: Kept | None = None
    ) -> None:
        self.verbose = False
        self._keys = keys
        self._kept = kept
        self._chat = conversation
        self._say = say
        self._attached: list[str] = []
        self._attached_tokens = 0
        self._pictures: list[Path] = []
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
            "image": ("PATH", "show a picture with the next message", self._image),
            "bye": ("", "leave", lambda _: "leave"),
        }

    @property
    def names(self) -> list[str]:
        """All commands, with their slashes."""
        return [f"/{name}" for name in self._table]

    def takes(self, line: str) -> bool:
        """Whether a line is a command, or a slip of one; whatever else begins with a slash, such as a path, is a
        message."""
        if not line.startswith("/"):
            return False
        words = re.split(r"\s+", line[1:], maxsplit=1)
        known = [*self._table, *_ALIASES]
        return words[0] in (*known, *_OUTSIDE) or (len(words) == 1 and bool(_like(words[0], known)))

    def run(self, line: str) -> Action:
        """What to do after the command ``line``; its errors are told."""
        name, _, argument = line.strip()[1:].partition(" ")
        name = _ALIASES.get(name, name)
        if name in _OUTSIDE:
            self._say(f"there is no command /{name}; outside of the chat, {_OUTSIDE[name]} does it")
            return "stay"
        if name not in self._table:
            like = "".join(f"; did you mean /{known}?" for known in _like(name, [*self._table, *_ALIASES]))
            self._say(f'there is no command /{name}{like} (/help lists them; between """ it is a message)')
            return "stay"
        try:
            return self._table[name][2](argument.strip()) or "stay"
        except (LlamaqError, OSError, ValueError) as error:
            self._say(str(error))
            return "stay"

    def message(self, text: str) -> str:
        """What the user's text amounts to: after the files that were put before it."""
        parts, self._attached, self._attached_tokens = [*self._attached, text], [], 0
        return "\n\n".join(parts)

    def pictures(self) -> list[Path]:
        """The pictures that go with the next message; they are no longer held then."""
        found, self._pictures = self._pictures, []
        return found

    def show(self, path: Path) -> None:
        """Holds a picture for the next message. Raises ``ImageError``, also where the model sees none."""
        from llamaq.vision.preprocess import picture_of

        if self._chat.llm.model.encoder is None:
            raise ImageError("the model sees no pictures: --mmproj FILE names its projector, if there is one for it")
        picture = picture_of(path)
        self._pictures.append(path.absolute())
        self._say(f"{path.name}, {picture.width} x {picture.height}, goes with your next message")

    def _help(self, argument: str) -> None:
        rows = [(f"/{name} {usage}".strip(), about) for name, (usage, about, _) in self._table.items()]
        self._say("\n".join([*(f"{row:<20}{about}" for row, about in rows), "", self._keys.rstrip()]).rstrip())

    def _set(self, argument: str) -> None:
        name, _, value = argument.removeprefix("parameter ").partition(" ")
        name = _NAMES.get(name, name)
        if name in ("think", "nothink"):
            self._think(name == "think")
        elif name in ("verbose", "quiet"):
            self.verbose = name == "verbose"
            self._say(f"answers {'have' if self.verbose else 'no longer have'} tokens and speeds below them")
        elif name == "system":
            self._system(value)
        elif name in _AT_START:
            raise ValueError(f"{name} is chosen when the chat starts: llamaq run MODEL {_AT_START[name]}")
        elif name == "forget" and self._kept is not None:
            self._kept.forget()
            self._say("the next chat with this model begins with its own settings")
        elif name in ("format", "noformat"):
            self._format(value if name == "format" else "none")
        elif name == "max_tokens" and value:
            count = _number(name, value, int)
            self._chat.max_tokens = None if count < 0 else count
            self._say(f"max_tokens is {in_words(self._chat, name)}")
        elif name and value:
            self._chat.sampling = _changed(self._chat.sampling, name, value.strip())
            self._say(f"{name} is {in_words(self._chat, name)}")
        elif name:
            raise ValueError(f"{name} is {in_words(self._chat, name)}; /set {name} VALUE changes it")
        else:
            names = [field.name for field in dataclasses.fields(self._chat.sampling) if field.name not in _UNSET]
            self._say("\n".join(f"{name:<24}{in_words(self._chat, name)}" for name in ["max_tokens", *names]))

    def _think(self, wanted: bool) -> None:
        from llamaq.chat import choose_template

        if _SWITCH not in choose_template(self._chat.llm.metadata, self._chat.template).source:
            raise ValueError(f"the model's chat template has no switch for reasoning ({_SWITCH})")
        self._chat.template_kwargs[_SWITCH] = wanted
        self._say(f"the template is asked {'for reasoning' if wanted else 'for none'} before answers")

    def _format(self, kind: str) -> None:
        from llamaq.structure import json_object

        if kind not in ("json", "none"):
            raise ValueError(f"/set format takes json, and /set noformat ends it; got {kind!r}")
        structure = json_object() if kind == "json" else None
        self._chat.sampling = dataclasses.replace(self._chat.sampling, structure=structure)
        self._say("answers are JSON" if structure else "answers are free text")

    def _system(self, argument: str) -> None:
        if argument:
            self._chat.system = argument.removeprefix('"""').removesuffix('"""')
            self._chat.changed()
            self._say("the system message is set; it holds from the next answer on")
        else:
            self._say(self._chat.system or "there is no system message; /system TEXT sets one")

    def _save(self, argument: str) -> None:
        self._chat.save(_path(argument))
        self._say(f"{counted(len(self._chat.messages), 'message')} written to {argument}")

    def _load(self, argument: str) -> None:
        self._chat.load(_path(argument))
        self._say(f"{argument}: {self._size()}")

    def _history(self, argument: str) -> None:
        if self._kept is None:
            raise ValueError("no chats are kept here")
        if argument:
            self._kept.resume(self._chat, int(argument) if argument.isdecimal() and len(argument) < 9 else 0)
            self._say(self._size())
        else:
            self._say(self._kept.table(shutil.get_terminal_size().columns))

    def _size(self) -> str:
        stopped = "; Ctrl-C ended the last answer, /regen answers anew" if self._chat.interrupted else ""
        return f"{counted(len(self._chat.messages), 'message')}, {counted(self._chat.tokens(), 'token')}{stopped}"

    def _clear(self, argument: str) -> None:
        self._chat.clear()
        self._attached.clear()
        self._attached_tokens = 0
        self._pictures.clear()
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
            "prompt": f"{counted(usage.prompt_tokens, 'token')}, {usage.cached_tokens} cached, {read} read "
            + speed(read, usage.prompt_seconds),
            "answer": f"{counted(written, 'token')} {speed(written, usage.completion_seconds)}",
            "so far": f"{counted(self._chat.totals[0], 'token')} read, {self._chat.totals[1]} written",
        }
        self._say("\n".join(f"{name:<10}{value}" for name, value in rows.items()))

    def _context(self, argument: str) -> None:
        self._say(
            f"{context_bar(self._chat.used, self._chat.llm.n_ctx)}, {counted(len(self._chat.messages), 'message')}"
        )

    def _file(self, argument: str) -> None:
        path = _path(argument)
        text = read_text(path, pipes=False)
        count = len(self._chat.llm.tokenizer.encode(text, add_special=False))
        total, held = self._chat.llm.n_ctx, self._attached_tokens
        if self._chat.options.get("overflow", "error") == "error":
            held += self._chat.used
        if count + held >= total:
            raise ValueError(
                f"{path.name} has {counted(count, 'token')}, but the context of {total} has room for "
                f"{max(0, total - held)} more: -c sets a longer one, /clear makes room"
            )
        self._attached.append(f"{path.name}:\n```\n{text.rstrip()}\n```")
        self._attached_tokens += count
        self._say(f"{path.name}, {counted(count, 'token')}, goes before your next message")

    def _image(self, argument: str) -> None:
        self.show(_path(argument))


def context_bar(used: int, total: int) -> str:
    """``[###-------] 300 of 1000 tokens``."""
    filled = min(10, round(10 * used / total))
    return f"[{'#' * filled}{'-' * (10 - filled)}] {used} of {total} tokens"


def _path(argument: str) -> Path:
    if not argument:
        raise ValueError("the name of a file is missing")
    return Path(argument.strip("'\"")).expanduser()


def in_words(chat: Conversation, name: str) -> str:
    """The value of a setting, for people. Raises ``ValueError`` where there is no such setting."""
    if name == "max_tokens":
        return "as many as fit" if chat.max_tokens is None else str(chat.max_tokens)
    if not hasattr(chat.sampling, name):
        raise ValueError(_no_setting(name))
    value = getattr(chat.sampling, name)
    if name == "seed" and value is None:
        return "another one for each answer"
    if name == "structure":
        return "none" if value is None else "one that answers must match"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ";".join(map(str, value)) if name == "samplers" else " ".join(map(repr, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def _no_setting(name: str) -> str:
    from llamaq.sampling import SamplingParams

    known = ["max_tokens", *(field.name for field in dataclasses.fields(SamplingParams))]
    meant = "".join(f"; did you mean {like}?" for like in _like(name, known))
    return f"there is no setting {name!r}{meant} (/set lists them)"


def _like(word: str, words: Sequence[str]) -> list[str]:
    return get_close_matches(word, words, n=1, cutoff=_LIKE)


def _number(name: str, value: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(value)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} must be {what}, got {value!r}") from None


def _changed(sampling: Any, name: str, value: str) -> Any:
    """Settings with one that the user typed; ``ValueError`` where there is none or it cannot be that."""
    kind = {field.name: str(field.type) for field in dataclasses.fields(sampling)}.get(name)
    if kind is None:
        raise ValueError(_no_setting(name))
    typed: Any = value
    if kind == "bool":
        if value.lower() not in _FLAGS:
            raise ValueError(f"{name} must be on or off, got {value!r}")
        typed = _FLAGS[value.lower()]
    elif kind == "float":
        typed = _number(name, value, float)
    elif kind in ("int", "int | None"):
        typed = _number(name, value, int)
        typed = None if typed < 0 and kind != "int" else typed
    elif not kind.startswith("str"):
        raise ValueError(f"{name} cannot be set here")
    return dataclasses.replace(sampling, **{name: typed})
