"""A folder of blocks: keys, values and states of the beginnings of texts, kept between runs and shared by processes.

    FOLDER/MODEL/about.json       what the blocks of a model and its settings are, for people
    FOLDER/MODEL/KEY.block        "llamaq block 1\\n", key, BLAKE2b of what follows; the bytes
    FOLDER/digests/PATH.json      the SHA-256 of a model file, with what it looked like then

MODEL and KEY are digests of all that the bytes depend on, so that a block under its name is the right one or damaged.
Blocks appear whole or not at all, and are not synced: one that a power cut has torn does not have its checksum.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.files import open_file, read_text
from llamaq.errors import LlamaqError
from llamaq.gguf import GGUFFile

__all__ = ["DEFAULT_LIMIT", "BlockFolder", "DiskCache", "Kept", "default_folder"]

logger = logging.getLogger("llamaq")

DEFAULT_LIMIT = 4 << 30
"""Bytes of all blocks together."""

_FREE = 256 << 20  # bytes that stay free on the disk
_MAGIC = b"llamaq block 1\n\0"
_DIGEST = 32
_FRONT = len(_MAGIC) + 2 * _DIGEST
_MODEL, _BLOCK = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}\.block")
_OLD = 3600.0  # seconds after which what is half written is nobody's
_YOUNG = 2e9  # nanoseconds for which a file may change without looking different
_MOST_ABOUT = 1 << 16  # bytes


def default_folder() -> Path:
    """Where it is unless somebody says otherwise: $LLAMAQ_CACHE_DIR, or among the user's caches."""
    if given := os.environ.get("LLAMAQ_CACHE_DIR"):
        return Path(os.path.expanduser(given))
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "llamaq"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "llamaq" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "llamaq"


@dataclass(frozen=True)
class Kept:
    """What is kept for a model with its settings: ``about`` says which, ``used`` when it was last of use (seconds since
    1970)."""

    folder: Path
    about: dict[str, Any]
    blocks: int
    nbytes: int
    used: float


class DiskCache:
    """A folder of blocks that all together take ``limit`` bytes at most; those that were not used for longest go."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder
        self.limit = limit

    def of(self, about: dict[str, Any]) -> BlockFolder:
        """The blocks of a model with all that their bytes depend on, which ``about`` says in JSON."""
        text = json.dumps(about, sort_keys=True)
        return BlockFolder(self, self.folder / hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), about)

    def kept(self) -> list[Kept]:
        """What there is, for each model, the one used last first."""
        found = []
        for folder in self._models():
            blocks = list(_blocks(folder))
            if blocks or (folder / "about.json").exists():
                used = max((used for used, _, _ in blocks), default=0)
                nbytes = sum(size for _, size, _ in blocks)
                found.append(Kept(folder, _about(folder), len(blocks), nbytes, used / 1e9))
        return sorted(found, key=lambda kept: -kept.used)

    def clear(self) -> int:
        """Removes all blocks and digests, and nothing else; how many bytes that were. Raises ``OSError``."""
        freed = 0
        for folder in self._models():
            for _, size, path in list(_blocks(folder)):
                path.unlink(missing_ok=True)
                freed += size
            for path in [*folder.glob("*.partial"), folder / "about.json"]:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # there are other things in it
                folder.rmdir()
        for path in (self.folder / "digests").glob("*.json"):
            path.unlink(missing_ok=True)
        return freed

    def trim(self) -> None:
        """Removes the blocks that were not used for longest until the rest takes nine tenths of the limit, where all
        take more than it; and what was left half written."""
        blocks = [block for folder in self._models() for block in _blocks(folder)]
        total = sum(size for _, size, _ in blocks)
        if total > self.limit:
            for _, size, path in sorted(blocks):
                if total <= self.limit * 9 // 10:
                    break
                with suppress(OSError):  # another process was first, or reads it, where that matters
                    path.unlink()
                total -= size
        for path in self.folder.glob("*/*.partial"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()

    def model_digest(self, file: GGUFFile, compute: Callable[[], str] | None) -> str | None:
        """The SHA-256 of a model file, remembered by path, size, inode and times that its parts had when they were
        opened, else computed (None: it is not). Nobody who cannot write to the folder can make it another."""
        look: list[list[Any]] = [
            [os.path.realpath(path), *seen] for path, seen in zip(file.paths, file.looks, strict=True)
        ]
        name = hashlib.blake2b(json.dumps(look[0][0]).encode(), digest_size=16).hexdigest()
        path = self.folder / "digests" / f"{name}.json"
        known = _json(path)
        digest = known.get("sha256")
        if known.get("look") == look and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest):
            return digest
        if compute is None:
            return None
        digest = compute()
        if time.time_ns() - max(max(each[-2:]) for each in look) > _YOUNG:
            make_folder(path.parent)
            put(path, [json.dumps({"look": look, "sha256": digest}).encode()])
        return digest

    def has_room(self, size: int) -> bool:
        """Whether the disk keeps some room for others after so many bytes. Raises ``OSError``."""
        make_folder(self.folder)
        return shutil.disk_usage(self.folder).free - size > _FREE

    def _models(self) -> list[Path]:
        with suppress(OSError), os.scandir(self.folder) as entries:
            return [Path(each.path) for each in entries if _MODEL.fullmatch(each.name) and each.is_dir()]
        return []


class BlockFolder:
    """The blocks of one model with one set of settings."""

    def __init__(self, cache: DiskCache, folder: Path, about: dict[str, Any]) -> None:
        self.cache = cache
        self._folder = folder
        self._about = about

    def has(self, key: bytes, size: int) -> bool:
        """Whether there is a block of ``size`` bytes under a key, damaged or not."""
        try:
            return os.stat(self._path(key)).st_size == _FRONT + size
        except OSError:
            return False

    def read(self, key: bytes, parts: Sequence[NDArray[np.uint8]]) -> bool:
        """Fills arrays, one after the other, with a block; False where it is not there, or is damaged: then it is
        removed, with a line in the log, and the arrays may hold anything."""
        path = self._path(key)
        try:
            with open_file(path) as file:
                if os.fstat(file.fileno()).st_size != _FRONT + sum(part.nbytes for part in parts):
                    raise ValueError("its size is wrong")
                front = file.read(_FRONT)
                digest = hashlib.blake2b(digest_size=_DIGEST)
                for part in parts:
                    if file.readinto(part.reshape(-1).data) != part.nbytes:
                        raise ValueError("it is cut off")
                    digest.update(part.reshape(-1).data)
            if front != _MAGIC + key + digest.digest():
                raise ValueError("it does not have its checksum")
        except (LlamaqError, OSError):
            return False  # it has just gone
        except ValueError as error:
            logger.warning("%s: a damaged block of the cache on disk is dropped: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return False
        return True

    def write(self, key: bytes, parts: Sequence[NDArray[np.uint8]]) -> None:
        """Puts a block under its key. Raises ``OSError``."""
        make_folder(self._folder)
        about = self._folder / "about.json"
        if not about.exists():
            put(about, [json.dumps(self._about, indent=1).encode()])
        digest = hashlib.blake2b(digest_size=_DIGEST)
        for part in parts:
            digest.update(part.reshape(-1).data)
        put(self._path(key), [_MAGIC + key + digest.digest(), *(part.reshape(-1).data for part in parts)])

    def touch(self, keys: Sequence[bytes]) -> None:
        """Says that blocks of a text were used: the later ones go first."""
        now = time.time_ns()
        for i, key in enumerate(keys):
            with suppress(OSError):
                os.utime(self._path(key), ns=(now - i, now - i))

    def _path(self, key: bytes) -> Path:
        return self._folder / f"{key.hex()}.block"


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, for the user alone. Raises ``OSError``."""
    if not folder.is_dir():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, exist_ok=True)


def put(path: Path, chunks: Sequence[bytes | memoryview]) -> None:
    """Writes a file that its owner alone can read, whole or not at all. Raises ``OSError``."""
    partial = path.with_name(f"{path.name[:20]}.{secrets.token_hex(8)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(partial, flags, 0o600), "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            os.unlink(partial)


def _blocks(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """When each block of a model was used last (nanoseconds), its size and path."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _BLOCK.fullmatch(entry.name):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield status.st_mtime_ns, status.st_size, Path(entry.path)


def _about(folder: Path) -> dict[str, Any]:
    return _json(folder / "about.json")


def _json(path: Path) -> dict[str, Any]:
    """What a small file of JSON says; nothing where it is none."""
    try:
        if path.stat().st_size > _MOST_ABOUT:
            return {}
        found = json.loads(read_text(path, pipes=False))
    except (OSError, LlamaqError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
