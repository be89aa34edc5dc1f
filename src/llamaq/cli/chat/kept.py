"""What is kept of the chats with a model between starts: what was said, and the settings that were changed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import read_text
from llamaq.boundary.words import counted
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.cli.chat.conversation import Conversation
    from llamaq.serving.defaults import Defaults

__all__ = ["Kept", "state_folder"]

_MOST_CHATS = 200  # chats of a model; older ones go
_LISTED = 20
_BEGINNING = 200  # characters of a chat's first message that a list may show
_SETTINGS = "settings.json"
_NOT_KEPT = ("seed", "structure", "logprobs", "logit_bias", "logit_processors", "samplers", "dry_sequence_breakers")


def state_folder() -> Path:
    """Where llamaq keeps what was typed and said, below XDG_STATE_HOME."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(base) / "llamaq"


class Kept:
    """The chats with one model, each a file that its owner alone can read. With LLAMAQ_NOHISTORY nothing is written."""

    def __init__(self, model: str) -> None:
        name = re.sub(r"[^\w.-]+", "-", model.removesuffix(".gguf")).strip(".-")[:100]
        self._folder = state_folder() / "chats" / (name or "model")
        self._writes = not os.environ.get("LLAMAQ_NOHISTORY")
        self._path = self._new_path()
        self.settings = self._read_settings()
        self._seen: dict[str, Any] = {}

    def chats(self) -> list[Path]:
        """The conversations, the latest first."""
        try:
            found = [path for path in self._folder.glob("*.json") if path.name != _SETTINGS]
            return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        except OSError:
            return []

    def resume(self, conversation: Conversation, number: int = 1) -> None:
        """Takes the conversation of this number, counted from the latest, in the place of ``conversation``; it goes on
        in its file. Raises ``ValueError`` where there is none."""
        chats = self.chats()
        if not 1 <= number <= len(chats):
            raise ValueError(
                f"earlier chats with this model have the numbers 1 to {len(chats)}, got {number}" if chats
                else "there is no earlier chat with this model"
            )  # fmt: skip
        conversation.load(chats[number - 1])
        self._path = chats[number - 1]

    def save(self, conversation: Conversation) -> None:
        """Writes the conversation; an empty one ends its file, and what follows has another. Raises ``LlamaqError``."""
        if not conversation.messages:
            self._path = self._new_path()
        elif self._writes:
            self._make_folder()
            conversation.save(self._path)
            with suppress(OSError):
                os.chmod(self._path, 0o600)
            for old in self.chats()[_MOST_CHATS:]:
                with suppress(OSError):
                    old.unlink()

    def table(self, width: int = 80) -> str:
        """The latest conversations for people, by their numbers, in lines of so many columns."""
        rows = []
        for number, path in enumerate(self.chats()[:_LISTED], 1):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
            count, first = _peek(path)
            here = "  (this one)" if path == self._path else ""
            row = f"{number:>2}  {when}  {counted(count, 'message'):>12}  "
            rows.append(f"{row}{first[: max(20, width - len(row) - len(here) - 1)]}{here}")
        if not rows:
            return "there is no earlier chat with this model"
        return "\n".join([*rows, "/history N goes on with one"])

    def over(self, defaults: Defaults) -> Defaults:
        """The defaults, changed to the settings that are kept; wrong ones are left out."""
        for name, value in self.settings.items():
            with suppress(TypeError, ValueError):
                if name == "max_tokens":
                    defaults = dataclasses.replace(defaults, max_tokens=None if value is None else int(value))
                else:
                    sampling = dataclasses.replace(defaults.sampling, **{name: value})
                    defaults = dataclasses.replace(defaults, sampling=sampling)
        return defaults

    def holding(self, conversation: Conversation) -> dict[str, Any]:
        """The settings that are kept and hold, which no option has changed."""
        now = _settings(conversation)
        return {name: value for name, value in self.settings.items() if now[name] == value}

    def watch(self, conversation: Conversation) -> None:
        """Takes the settings as they are for those that need not be kept."""
        self._seen = _settings(conversation)

    def notice(self, conversation: Conversation) -> None:
        """Keeps the settings that were changed since the last look. Raises ``LlamaqError``."""
        now = _settings(conversation)
        changed = {name: value for name, value in now.items() if self._seen.get(name) != value}
        self._seen = now
        if changed and self._writes:
            self.settings |= changed
            self._write_settings()

    def forget(self) -> None:
        """Keeps no settings any more, until others are changed. Raises ``LlamaqError``."""
        self.settings = {}
        if self._writes:
            self._write_settings()

    def _write_settings(self) -> None:
        self._make_folder()
        with atomic_file(self._folder / _SETTINGS) as file:
            file.write(json.dumps(self.settings, indent=1).encode() + b"\n")

    def _make_folder(self) -> None:
        try:
            self._folder.parent.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._folder.parent, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LlamaqError(f"{error.filename}: cannot be made: {error.strerror}") from None

    def _new_path(self) -> Path:
        return self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.json"

    def _read_settings(self) -> dict[str, Any]:
        try:
            found = json.loads(read_text(self._folder / _SETTINGS, pipes=False))
        except (LlamaqError, ValueError, RecursionError):
            return {}
        known = {*_names(), "max_tokens"}
        return {name: value for name, value in found.items() if name in known} if isinstance(found, dict) else {}


def _names() -> list[str]:
    from llamaq.sampling import SamplingParams

    return [field.name for field in dataclasses.fields(SamplingParams) if field.name not in _NOT_KEPT]


def _settings(conversation: Conversation) -> dict[str, Any]:
    found = {name: getattr(conversation.sampling, name) for name in _names()}
    return {"max_tokens": conversation.max_tokens, **found}


def _peek(path: Path) -> tuple[int, str]:
    """How many messages a conversation has, and how its first begins."""
    try:
        messages = json.loads(read_text(path, pipes=False))["messages"]
        said = [str(message["content"]) for message in messages if message["role"] != "system"]
        return len(said), " ".join(said[0].split())[:_BEGINNING] if said else ""
    except (LlamaqError, ValueError, KeyError, TypeError, RecursionError):
        return 0, "(damaged)"
