"""A model in several files, and in one again (llama-gguf-split's names and keys)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llamaq.errors import GGUFError
from llamaq.gguf.file import GGUFFile
from llamaq.gguf.types import TensorInfo
from llamaq.gguf.writer import TensorData, write_gguf

__all__ = ["SPLIT_KEYS", "merge_gguf", "part_path", "plan_parts", "split_gguf", "split_keys"]

SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_PIECE = 1 << 24  # bytes between calls of the progress callback

Progress = Callable[[int, int], None]


def part_path(prefix: Path, index: int, count: int) -> Path:
    """The name of part ``index`` of ``count``, counted from 0: PREFIX-00001-of-00003.gguf."""
    return prefix.with_name(f"{prefix.name}-{index + 1:05}-of-{count:05}.gguf")


def split_keys(index: int, count: int, tensors: int) -> dict[str, np.generic]:
    """What ties a part to the others: its number, how many there are, and how many tensors they have together."""
    return dict(zip(SPLIT_KEYS, (np.uint16(index), np.uint16(count), np.int32(tensors)), strict=True))


def plan_parts(
    tensors: Sequence[TensorInfo],
    *,
    max_tensors: int | None = None,
    max_bytes: int | None = None,
    metadata_alone: bool = False,
) -> list[list[TensorInfo]]:
    """The tensors of each part, in order: at most ``max_tensors``, and ``max_bytes`` of data unless one has more.

    With ``metadata_alone`` the first part has no tensors.
    """
    parts: list[list[TensorInfo]] = [[]]
    for info in tensors:
        here = parts[-1]
        full = max_tensors is not None and len(here) >= max_tensors
        large = max_bytes is not None and sum(other.nbytes for other in here) + info.nbytes > max_bytes
        if here and (full or large):
            here = []
            parts.append(here)
        here.append(info)
    return [[], *parts] if metadata_alone and tensors else parts


def split_gguf(
    source: str | os.PathLike[str],
    prefix: str | os.PathLike[str],
    *,
    max_tensors: int | None = None,
    max_bytes: int | None = None,
    metadata_alone: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes a model as parts PREFIX-00001-of-0000N.gguf, and returns their paths; limits as for `plan_parts`.

    The first part has the metadata. ``progress`` gets bytes of tensors written and in total. Raises GGUFError where
    a part would be the file that is read, or the disk refuses; no part is left then.
    """
    with GGUFFile.open(source) as file:
        parts = plan_parts(
            list(file.tensors.values()), max_tensors=max_tensors, max_bytes=max_bytes, metadata_alone=metadata_alone
        )
        paths = [part_path(Path(prefix), i, len(parts)) for i in range(len(parts))]
        copy = _Copy(file, progress)
        for path in paths:
            copy.check_target(path)
        done: list[Path] = []
        try:
            for i, (path, tensors) in enumerate(zip(paths, parts, strict=True)):
                copy.write(path, split_keys(i, len(parts), len(file.tensors)), tensors, metadata=i == 0)
                done.append(path)
        except BaseException:
            for path in done:
                path.unlink(missing_ok=True)
            raise
    return paths


def merge_gguf(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Progress | None = None
) -> None:
    """Writes the parts of a split model, of which ``source`` is any, as one file.

    ``progress`` gets bytes of tensors written and in total. Raises GGUFError where a part is missing, where ``target``
    is a part, or the disk refuses; ``target`` is then as it was.
    """
    with GGUFFile.open(source) as file:
        copy = _Copy(file, progress)
        copy.check_target(Path(target))
        copy.write(Path(target), {}, list(file.tensors.values()), metadata=True)


class _Copy:
    """Writes tensors of a file as they are, and tells how far it has come."""

    def __init__(self, file: GGUFFile, progress: Progress | None) -> None:
        self._file, self._progress = file, progress
        self._done, self._total = 0, sum(info.nbytes for info in file.tensors.values())

    def check_target(self, path: Path) -> None:
        if path.resolve() in {part.resolve() for part in self._file.paths}:
            raise GGUFError(f"{path}: is the file that is read; give the new file another name")

    def write(self, path: Path, keys: dict[str, np.generic], tensors: Sequence[TensorInfo], *, metadata: bool) -> None:
        kept: dict[str, Any] = dict(self._file.metadata) if metadata else {}
        kept = {key: value for key, value in kept.items() if key not in SPLIT_KEYS}
        types = {key: type for key, type in self._file.metadata_types.items() if key in kept}
        data = [TensorData(info.name, info.format, info.shape, self._pieces(info)) for info in tensors]
        write_gguf(path, kept | keys, data, types=types)

    def _pieces(self, info: TensorInfo) -> Iterator[memoryview]:
        raw = self._file.data(info.name).reshape(-1)
        for i in range(0, max(1, raw.size), _PIECE):
            piece = raw[i : i + _PIECE]
            yield piece.data
            self._done += piece.size
            if self._progress is not None:
                self._progress(self._done, self._total)
