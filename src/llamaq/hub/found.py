"""A model that was found, and what a place to find models in is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Found", "Source", "parts_of"]

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_MOST_PARTS = 1000


@dataclass(frozen=True)
class Found:
    """A model file, by the ``name`` that is its own in the place ``source``; ``aliases`` are further names of it.

    ``path`` is the file, or the first part of a split one; ``adapters`` are files of adapters that belong to it,
    ``projector`` that with which it sees pictures.
    ``parameters`` (as Ollama names them) and ``system`` are
    what its owner wants where nobody asks otherwise. ``problem`` says why it cannot be used though it is there.
    It can be given wherever a path can.
    """

    path: Path
    name: str
    source: str
    aliases: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    problem: str = ""
    adapters: tuple[Path, ...] = ()
    projector: Path | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all parts that are there."""
        return parts_of(self.path)

    @property
    def complete(self) -> bool:
        """Whether no part of it is missing."""
        name = _PART.fullmatch(self.path.name)
        return name is None or len(self.paths) == int(name["count"])

    @property
    def is_path(self) -> bool:
        """Whether it was given by its path, not by a name."""
        return not self.source


class Source(Protocol):
    """A place where models lie."""

    title: str
    """Its name for people."""
    removal: str
    """How its models are removed, where llamaq leaves that to others; NAME stands for the model's."""

    def folders(self) -> list[Path]:
        """Where it looks."""

    def models(self) -> Iterator[Found]:
        """What lies there. What cannot be read is passed over."""


def parts_of(path: Path) -> tuple[Path, ...]:
    """The parts of a split model that lie beside any of them; the file alone where it is none."""
    name = _PART.fullmatch(path.name)
    if name is None or int(name["count"]) > _MOST_PARTS:
        return (path,)
    parts = [path.with_name(f"{name['stem']}-{i + 1:05}-of-{name['count']}.gguf") for i in range(int(name["count"]))]
    return tuple(part for part in parts if os.path.exists(part)) or (path,)
