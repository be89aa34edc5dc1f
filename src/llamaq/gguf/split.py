"""A model in several files, and in one again (llama-gguf-split's names and keys)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llamaq.boundary.atomic import discard
from llamaq.boundary.progress import Progress
from llamaq.errors import GGUFError
from llamaq.gguf.file import GGUFFile
from llamaq.gguf.types import TensorInfo, ValueType
from llamaq.gguf.writer import TensorData, gguf_size, write_gguf

__all__ = ["SPLIT_KEYS", "merge_gguf", "part_path", "part_sizes", "plan_parts", "split_gguf", "split_keys"]

SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_PIECE = 1 << 24  # bytes between calls of the progress callback


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
    nbytes = 0  # bytes of the last part
    for info in tensors:
        full = max_tensors is not None and len(parts[-1]) >= max_tensors
        large = max_bytes is not None and nbytes + info.nbytes > max_bytes
        if parts[-1] and (full or large):
            parts.append([])
            nbytes = 0
        parts[-1].append(info)
        nbytes += info.nbytes
    return [[], *parts] if metadata_alone and tensors else parts


def part_sizes(file: GGUFFile, parts: Sequence[Sequence[TensorInfo]]) -> list[int]:
    """Bytes of the files that `split_gguf` would write for these parts."""
    sizes = []
    for i, tensors in enumerate(parts):
        metadata, types = _metadata(file, split_keys(i, len(parts), len(file.tensors)), whole=i == 0)
        data = [TensorData(info.name, info.format, info.shape, b"") for info in tensors]
        sizes.append(gguf_size(metadata, data, types=types))
    return sizes


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
                copy.write(path, split_keys(i, len(parts), len(file.tensors)), tensors, whole=i == 0)
                done.append(path)
        except BaseException:
            for path in done:
                discard(path)
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
        copy.write(Path(target), {}, list(file.tensors.values()), whole=True)


def _metadata(
    file: GGUFFile, keys: Mapping[str, np.generic], *, whole: bool
) -> tuple[dict[str, Any], dict[str, ValueType]]:
    """What a part says, and the values' types: ``keys``, and where ``whole`` what the file says."""
    kept = {key: value for key, value in file.metadata.items() if whole and key not in SPLIT_KEYS}
    return {**kept, **keys}, {key: file.metadata_types[key] for key in kept}


class _Copy:
    """Writes tensors of a file as they are, and tells how far it has come."""

    def __init__(self, file: GGUFFile, progress: Progress | None) -> None:
        self._file, self._progress = file, progress
        self._done, self._total = 0, sum(info.nbytes for info in file.tensors.values())

    def check_target(self, path: Path) -> None:
        if os.path.realpath(path) in map(os.path.realpath, self._file.paths):
            raise GGUFError(f"{path}: is the file that is read; give the new file another name")

    def write(self, path: Path, keys: dict[str, np.generic], tensors: Sequence[TensorInfo], *, whole: bool) -> None:
        metadata, types = _metadata(self._file, keys, whole=whole)
        data = [TensorData(info.name, info.format, info.shape, self._pieces(info)) for info in tensors]
        write_gguf(path, metadata, data, types=types)

    def _pieces(self, info: TensorInfo) -> Iterator[memoryview]:
        raw = self._file.data(info.name).reshape(-1)
        for i in range(0, max(1, raw.size), _PIECE):
            piece = raw[i : i + _PIECE]
            yield piece.data
            self._done += piece.size
            if self._progress is not None:
                self._progress(self._done, self._total)
