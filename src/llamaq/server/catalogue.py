"""Which models there are, by the names that clients have for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from llamaq.hub import Found
from llamaq.hub.cache import HubCache, cached
from llamaq.server.errors import Refusal
from llamaq.server.hub_names import hub_address
from llamaq.server.served import Entry

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM

__all__ = ["Catalogue", "Source"]

Source: TypeAlias = "LLM | str | os.PathLike[str]"
"""A model that is loaded, a file, one that was found by its name, or a folder of files."""

_PART = re.compile(r"-(\d{5})-of-\d{5}$")
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_DEEPEST = 3  # folders in a folder that are looked into
_MOST = 10_000  # files of a folder


class Catalogue:
    """The models given one by one, and those of folders and, with ``hub``, of the hub's cache, which are looked at anew
    whenever one is asked for that is not known, and for each list."""

    def __init__(self, sources: Source | Sequence[Source], names: Sequence[str], *, hub: bool = False) -> None:
        """``names`` are those of the only model given; with ``*`` among them any other name finds the first. Raises
        ``ValueError`` where several models have names, or there are none."""
        if not isinstance(sources, Sequence) or isinstance(sources, str):
            sources = [sources]
        self._any_name = "*" in names
        names = [name for name in names if name != "*"]
        folders = [each for each in sources if isinstance(each, str | os.PathLike) and Path(each).is_dir()]
        self._folders = [Path(each) for each in folders]
        self._hub = hub
        self._given: list[Entry] = []
        self._found: dict[Path, Entry] = {}
        for source in sources:
            if not isinstance(source, str | os.PathLike):
                path = source.model.parts.file.path
                self._given.append(Entry(path, names or [self._free_name(path)], llm=source))
            elif isinstance(source, Found) and not source.is_path:
                also = (source.name, *source.aliases)
                self._given.append(Entry(source.path, names or [source.name], also, source=source))
            elif source not in folders:
                self._given.append(Entry(Path(source), names or [self._free_name(Path(source))]))
        if names and (self._folders or len(self._given) > 1):
            raise ValueError("names are those of one model; where there are several, each has its file's name")
        if not sources:
            raise ValueError("there must be a model at least")

    @property
    def only(self) -> Entry | None:
        """The model, where no other is given."""
        return self._given[0] if len(self._given) == 1 and not self._folders else None

    @property
    def known(self) -> list[Entry]:
        """Those that were there at the last look, with all that are in memory; those given first."""
        return [*self._given, *self._found.values()]

    def entries(self) -> list[Entry]:
        """All of them, those given first."""
        if self._folders or self._hub:
            self._look()
        return self.known

    def find(self, name: str | None) -> Entry:
        """The model of this name, case and the tag ``:latest`` aside; the only one, or with ``*`` the first, where none
        is given. Raises ``Refusal``."""
        if self.only is not None and not name:
            return self.only
        entry = (
            self._named(name, self.known)
            or self._with_adapter(name)
            or self._in_cache(name)
            or self._named(name, self.entries())
        )
        if entry is not None:
            return entry
        entries = self.entries()
        if self._any_name and entries:
            return entries[0]
        there = ", ".join(each for entry in entries[:20] for each in entry.names) or "none"
        if not name:
            raise Refusal(400, f"model is missing: there are {there}", param="model")
        message = f"there is no model {name!r:.100} here; there is {there}"
        raise Refusal(404, message, param="model", code="model_not_found")

    def _named(self, name: str | None, entries: Sequence[Entry]) -> Entry | None:
        if not name:
            return None
        for entry in entries:
            if name in entry.also:
                return entry
        wanted = name.lower().removesuffix(":latest")
        return next((entry for entry in entries if wanted in {each.lower() for each in entry.also}), None)

    def _with_adapter(self, name: str | None) -> Entry | None:
        """The model of which a name means an adapter."""
        return next((entry for entry in self.known if name and entry.adapter_of(name)), None)

    def _in_cache(self, name: str | None) -> Entry | None:
        """The model of the hub's cache that a name on the hub means."""
        try:
            address = hub_address(name or "") if self._hub else None
        except ValueError:
            return None
        found = None if address is None else cached(address)
        if found is None:
            return None
        if found.path not in self._found:
            self._look()
        return next((entry for entry in self.known if entry.path == found.path), None)

    def _look(self) -> None:
        """Notes what has come and gone in the folders and the hub's cache; what is in memory stays."""
        there = {path: folder for folder in self._folders for path in _files(folder)}
        of_hub = {found.path: found for found in HubCache().models() if found.complete} if self._hub else {}
        gone = {*self._found} - {*there, *of_hub}
        for path in [path for path in gone if self._found[path].state == "on disk"]:
            del self._found[path]
        for path, folder in there.items():
            if path not in self._found:
                stem = _stem(path)
                own = str(path.relative_to(folder).with_name(stem))
                self._found[path] = Entry(path, [self._free_name(path, own)], also=[own])
        given = {entry.path for entry in self._given}
        for path, found in of_hub.items():
            if path not in self._found and path not in given:
                self._found[path] = Entry(path, [found.name], source=found)

    def _free_name(self, path: Path, longer: str | None = None) -> str:
        """The file's name, or one that no other model has."""
        taken = {name for entry in self.known for name in entry.names}
        wanted = [_stem(path), longer or str(path), str(path)]
        return next((name for name in wanted if name not in taken), str(path))


def _stem(path: Path) -> str:
    """A file's name without what says that it is a GGUF file, or a part of one."""
    return _PART.sub("", path.name.removesuffix(".gguf"))


def _files(folder: Path) -> Iterator[Path]:
    """The models in a folder, in the order of their names: of split ones the first part."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        if len(Path(place).relative_to(folder).parts) >= _DEEPEST:
            folders.clear()
        for name in sorted(names):
            part = _PART.search(name.removesuffix(".gguf"))
            if name.endswith(".gguf") and not _NO_MODEL.search(name) and (part is None or int(part[1]) == 1):
                found.append(Path(place, name))
        if len(found) > _MOST:
            break
    return iter(found)
