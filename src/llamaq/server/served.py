"""A model behind the routes: its file, what is known of it, and the loaded model while there is one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llamaq import __version__

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM
    from llamaq.server.errors import Refusal
    from llamaq.serving.adaptation import AdapterChoice

__all__ = ["GONE", "Entry", "Served", "State", "signature"]

State = Literal["loaded", "loading", "on disk"]
GONE = (0, 0, 0)
"""The signature of a file that is not there."""


class Served:
    """A model that answers. ``name`` is what answers call it, ``adapter`` what a request goes through that asks for
    nothing else; None: the model's default."""

    def __init__(self, llm: LLM, name: str, adapter: AdapterChoice = None) -> None:
        self.llm = llm
        self.name = name
        self.adapter = adapter
        self.created = int(time.time())
        path, key = llm.model.parts.file.path, llm.model.adapters.of(adapter).key
        own = (*signature(path), path.name, __version__, llm.engine.numerics, *key)
        self.fingerprint = f"llamaq-{hashlib.sha256(repr(own).encode()).hexdigest()[:16]}"
        """Equal ones give equal answers to equal requests."""

    def through(self, adapter: str, name: str) -> Served:
        """The model with one of its adapters, under the name that was asked for."""
        return Served(self.llm, name, {adapter: self.llm.model.adapters.usual(adapter)})


class Entry:
    """A model that can be asked for. ``names`` are those it is listed under, its own first; ``also`` others that find
    it; ``path`` the file, or the first of a split one. Times are seconds since 1970."""

    def __init__(
        self, path: Path, names: Sequence[str], also: Sequence[str] = (), *, llm: LLM | None = None,
        source: os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.source = path if source is None else source
        """What is loaded: the file, and with it what its owner wants."""
        self.names = tuple(names)
        self.also = {*names, *also, path.name, str(path)}
        self.stays = llm is not None
        """Whether the model is its maker's to close, so that it is never unloaded."""
        self.served = None if llm is None else Served(llm, self.name)
        self.since: float | None = None if llm is None else time.time()
        """When it was loaded."""
        self.expires: float | None = None
        """When it will be unloaded, where nobody asks for it; None: nobody knows."""
        self.had_adapters: tuple[str, ...] = ()
        """Names of those that it had when it was unloaded: requests that say one load it again."""
        self.memory = 0 if llm is None else llm.memory.total
        """Bytes that it takes, or took when it was loaded last."""
        self.progress = 0.0
        """How much of it has been loaded, 0 to 1."""
        self.users = 0
        """Requests that use it."""
        self.used = 0.0  # when it was last left, by the clock that never goes back
        self.loading: asyncio.Future[Refusal | None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.signature = signature(path)

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of its adapters, which are known once it has been loaded."""
        if self.served is None:
            return self.had_adapters
        return tuple(adapter.name for adapter in self.served.llm.adapters)

    def adapter_of(self, name: str) -> str | None:
        """The adapter that a name means, its own or MODEL:ADAPTER; None where it means none."""
        if name in self.also:
            return None
        for adapter in self.adapters:
            if name == adapter or name in {f"{own}:{adapter}" for own in self.also}:
                return adapter
        return None

    @property
    def state(self) -> State:
        if self.served is not None:
            return "loaded"
        return "on disk" if self.loading is None else "loading"

    @property
    def size(self) -> int:
        """Bytes of the file, all parts of a split one; 0 where it is gone."""
        return sum(signature(part)[0] for part in _parts_of(self.path))

    @property
    def modified(self) -> float:
        """When the file was changed last; 0 where it is gone."""
        return signature(self.path)[1] / 1e9


def signature(path: Path) -> tuple[int, int, int]:
    """Size, time of the last change (ns) and number of a file, which tell whether it is still the same; ``GONE`` where
    there is none."""
    try:
        stat = path.stat()
    except OSError:
        return GONE
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _parts_of(path: Path) -> list[Path]:
    """All files of a model."""
    stem, _, count = path.name.removesuffix(".gguf").rpartition("-of-")
    if not (stem.endswith("-00001") and count.isdecimal() and len(count) == 5):
        return [path]
    return [path.with_name(f"{stem[:-5]}{i:05}-of-{count}.gguf") for i in range(1, int(count) + 1)]
