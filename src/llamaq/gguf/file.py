"""A GGUF file, or a set of split ones, mapped into memory."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import path_of, text
from llamaq.boundary.files import open_file, reason
from llamaq.errors import GGUFError, LlamaqError
from llamaq.gguf.parse import Contents, Value, parse
from llamaq.gguf.types import DAMAGED, ByteOrder, TensorInfo, ValueType, refusal

__all__ = ["GGUFFile"]

Look: TypeAlias = tuple[int, int, int, int, int]

_SHARD_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class GGUFFile:
    """What a model file holds: metadata, tensor table, and the tensors' bytes where the file has them.

    ``path`` is the file that was given, ``paths`` every shard's in order, ``version``, ``byte_order`` and
    ``alignment`` those of the first. ``metadata`` maps keys to int, float, bool, str or `GGUFArray`;
    ``metadata_types`` to the type that the file gives the value (of an array, the elements). ``tensors`` maps
    names to `TensorInfo`, in file order.

    Nobody may shorten the file while it is open: reading a mapped page that is gone kills the process. `check` tells
    whether somebody has.
    """

    def __init__(self, path: Path, shards: tuple[_Shard, ...] = ()) -> None:
        if not shards:
            raise TypeError('GGUFFile.open opens a file: GGUFFile.open("model.gguf")')
        first = shards[0].contents
        self.path = path
        self.paths = tuple(shard.path for shard in shards)
        self.version = first.version
        self.byte_order: ByteOrder = first.byte_order
        self.alignment = first.alignment
        self.metadata: Mapping[str, Value] = MappingProxyType(first.metadata)
        self.metadata_types: Mapping[str, ValueType] = MappingProxyType(first.types)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(_merged(shards))
        self.overridden = False
        """Whether `override` has put other values in the place of the file's."""
        self.looks = tuple(shard.look for shard in shards)
        """How each of ``paths`` looked when it was opened: size, device, inode, times of change (ns)."""
        self._shards = shards  # empty once the file is closed

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUFFile:
        """Opens a file, and with any shard of a split set (``-00001-of-00003.gguf``) all of them.

        Raises GGUFError where a file is missing, unreadable, not GGUF, or says what its size contradicts.
        """
        given = path_of("path", path)
        shard = _open_shard(given)
        return cls(given, _shards(shard) if _split_count(shard) > 1 else (shard,))

    def override(self, entries: Mapping[str, Value]) -> None:
        """Puts other values in the place of the file's metadata, for whatever is made of it from now on."""
        self.metadata, self.overridden = MappingProxyType({**self.metadata, **entries}), True

    @property
    def mapped(self) -> bool:
        """Whether `data` gives views of the mapping, not copies."""
        return self.byte_order == "little"

    def data(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor, read-only, shape (*outer dimensions, bytes of a row).

        A view of the mapping, which stays valid after `close`; from a big-endian file, a little-endian copy. Raises
        what `check` does.
        """
        info = self.tensors[text("name", name)]
        raw = np.frombuffer(self._map(info), dtype=np.uint8, count=info.nbytes, offset=info.offset)
        raw = raw.reshape(*info.shape[:-1], info.format.row_bytes(info.shape[-1]))
        if not self.mapped:
            from llamaq.formats import byteswap

            raw = byteswap(info.format, raw)
            raw.flags.writeable = False
        return raw

    def check(self) -> None:
        """Raises GGUFError where the file, or a part of it, has been shortened since it was opened."""
        for shard in self._shards:
            shard.check()

    def check_unwritten(self) -> None:
        """Raises GGUFError where somebody has written to the file, or a part of it, since it was opened: what has been
        made of it before is of other bytes. Where another file has taken its place the mapping has the old one."""
        for shard in self._shards:
            shard.check_unwritten()

    def sha256(self) -> str:
        """SHA-256 of the bytes that the file had when it was opened, of all parts in their order, in hex.

        ``ValueError`` once it is closed; raises what `check_unwritten` does.
        """
        if not self._shards:
            raise ValueError(f"{self.path}: the file is closed")
        digest = hashlib.sha256()
        for shard in self._shards:
            digest.update(shard.map)
        self.check_unwritten()
        return digest.hexdigest()

    def close(self) -> None:
        """Lets go of the file. Views and arrays handed out stay valid, and keep the mapping alive."""
        self._shards = ()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"GGUFFile({str(self.path)!r}, {len(self.metadata)} keys, {len(self.tensors)} tensors)"

    def _map(self, info: TensorInfo) -> mmap.mmap:
        if not self._shards:
            raise ValueError(f"{self.path}: the file is closed")
        shard = self._shards[info.shard]
        shard.check()
        return shard.map


@dataclass(frozen=True)
class _Shard:
    path: Path
    map: mmap.mmap
    contents: Contents
    look: Look

    def check(self) -> None:
        """See `GGUFFile.check`."""
        had, has = len(self.map), self.map.size()  # bytes of the mapping, and of the file by now
        if has < had:
            raise GGUFError(
                f"{self.path}: the file had {had} bytes when it was opened, and has {has} now; put it back whole, and "
                "load it again"
            )

    def check_unwritten(self) -> None:
        """See `GGUFFile.check_unwritten`."""
        try:
            with open_file(self.path) as file:
                size, *now, written, _ = _look(file)
        except LlamaqError:  # it has gone from its place
            return
        if now == [*self.look[1:3]] and (size, written) != (self.look[0], self.look[3]):
            raise GGUFError(f"{self.path}: the file was written to after it had been opened; load it again")


def _open_shard(path: Path, index: int = 0) -> _Shard:
    mapped, look = _map_file(path)
    return _Shard(path, mapped, parse(memoryview(mapped), str(path), shard=index), look)


def _look(file: BufferedReader) -> Look:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _map_file(path: Path) -> tuple[mmap.mmap, Look]:
    with open_file(path, GGUFError) as file:
        look = _look(file)
        if look[0] == 0:
            raise refusal(str(path), 0, "header", "a GGUF file", "an empty file")
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), look
        except OSError as error:
            raise GGUFError(f"{path}: cannot be mapped: {reason(error, 'copy it to a local disk')}") from None


def _split_value(shard: _Shard, key: str) -> int | None:
    """One of the three numbers that tie shards together; None where the file does not have it."""
    value = shard.contents.metadata.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise GGUFError(f"{shard.path}: key {key!r}: expected an integer, got {value!r}; {DAMAGED}")
    return value


def _split_count(shard: _Shard) -> int:
    return _split_value(shard, "split.count") or 1


def _shards(given: _Shard) -> tuple[_Shard, ...]:
    """Opens the set that ``given`` belongs to, and sees that its members agree on who is who."""
    count = _split_count(given)
    name = _SHARD_NAME.fullmatch(given.path.name)
    if name is None or int(name["count"]) != count or not 1 <= int(name["number"]) <= count:
        pattern = f"NAME-00001-of-{count:05}.gguf"
        raise GGUFError(
            f"{given.path}: key 'split.count': expected a name like {pattern} for a part of {count}, "
            f"got {given.path.name!r}; give the parts their names back"
        )
    shards = []
    for index in range(count):
        path = given.path.with_name(f"{name['stem']}-{index + 1:05}-of-{count:05}.gguf")
        if not path.exists():
            raise GGUFError(
                f"{path}: no such file: part {index + 1} of {count} is missing; put all parts in one folder"
            )
        shards.append(_open_shard(path, index))
    for index, shard in enumerate(shards):
        for key, expected in (("split.no", index), ("split.count", count)):
            if (got := _split_value(shard, key)) != expected:
                raise GGUFError(
                    f"{shard.path}: key {key!r}: expected {expected}, got {got}; "
                    "the parts belong to different models or were renamed: download them again"
                )
        first, order = shards[0].contents.byte_order, shard.contents.byte_order
        if order != first:
            raise GGUFError(
                f"{shard.path}: expected {first}-endian as in the first part, got {order}-endian; "
                "convert the model again"
            )
    return tuple(shards)


def _merged(shards: tuple[_Shard, ...]) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, info in shard.contents.tensors.items():
            if name in tensors:
                first = shards[tensors[name].shard].path
                raise GGUFError(
                    f"{shard.path}: tensor {name!r}: expected each tensor once, got one that {first} "
                    "also has; download the parts again"
                )
            tensors[name] = info
    expected = _split_value(shards[0], "split.tensors.count")
    if len(shards) > 1 and expected is not None and expected != len(tensors):
        raise GGUFError(
            f"{shards[0].path}: key 'split.tensors.count': expected {expected} tensors in all parts, "
            f"got {len(tensors)}; download the parts again"
        )
    return tensors
