"""Importance matrices: mean squares of what the columns of each weight are multiplied with.

The files are those of llama.cpp's llama-imatrix: a GGUF file with sums and counts for each tensor, or the older
binary one, which has means times a number of calls (ggml-org/llama.cpp, tools/imatrix/README.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import instance, items, path_of
from llamaq.boundary.files import open_file, reason
from llamaq.errors import GGUFError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFArray, GGUFFile, TensorData, write_gguf

__all__ = ["Imatrix", "Squares", "merged", "read", "save"]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_REMEDY = "make it again with llamaq imatrix, or download it again"
_MOST_NAME = 1 << 16  # bytes of a name


@dataclass
class Squares:
    """Of one tensor: ``sums`` of squares, float32 (matrices, columns), over ``counts`` rows, float32 (matrices,).

    A tensor has one matrix, or one for each expert.
    """

    sums: NDArray[np.float32]
    counts: NDArray[np.float32]

    def means(self) -> NDArray[np.float32]:
        """Mean squares; 1 for a matrix that saw no row, of whose columns nothing is known."""
        counts = self.counts[:, None]
        return np.where(counts > 0, self.sums / np.maximum(counts, 1), 1).astype(np.float32)


@dataclass
class Imatrix:
    """What a file holds: entries by the tensor's name, and the texts that were read, as chunks of ``chunk_size`` tokens
    (0: the file does not say)."""

    entries: dict[str, Squares] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0

    def means(self) -> dict[str, NDArray[np.float32]]:
        """Mean squared activations by the tensor's name, float32 (matrices, columns).

        The older binary format does not tell experts apart: there the columns of all experts follow each other in one
        row.
        """
        return {name: squares.means() for name, squares in self.entries.items()}


def read(path: str | os.PathLike[str]) -> Imatrix:
    """The sums and counts of a file of either format. Raises GGUFError for one that is neither, or damaged."""
    path = path_of("path", path)
    with open_file(path, GGUFError) as file:
        if file.read(4) != b"GGUF":
            return _read_binary(_Binary(path, file))
    return _read_gguf(path)


def save(path: str | os.PathLike[str], imatrix: Imatrix) -> None:
    """Writes llama.cpp's GGUF format, whole or not at all. Raises GGUFError where the disk refuses."""
    path, imatrix, f32 = path_of("path", path), instance("imatrix", imatrix, Imatrix), format_by_name("F32")
    tensors = []
    for name, entry in sorted(imatrix.entries.items()):
        sums, counts = (np.ascontiguousarray(a, "<f4") for a in (entry.sums, entry.counts[:, None]))
        for suffix, values in ((_SUMS, sums), (_COUNTS, counts)):
            shape = values.shape if len(values) > 1 else values.shape[1:]
            tensors.append(TensorData(name + suffix, f32, shape, values))
    metadata: dict[str, int | str | list[str]] = {
        "general.type": "imatrix",
        "imatrix.datasets": list(imatrix.datasets) or [""],
        "imatrix.chunk_count": imatrix.chunks,
        "imatrix.chunk_size": imatrix.chunk_size,
    }
    write_gguf(path, metadata, tensors)


def merged(parts: Sequence[Imatrix]) -> Imatrix:
    """What one collection over all texts would have found.

    Raises GGUFError where they disagree about a tensor's shape.
    """
    total = Imatrix()
    for part in items("parts", parts, "importance matrices"):
        for name, entry in instance("each of parts", part, Imatrix).entries.items():
            known = total.entries.get(name)
            if known is None:
                total.entries[name] = entry
            elif known.sums.shape == entry.sums.shape:
                total.entries[name] = Squares(known.sums + entry.sums, known.counts + entry.counts)
            else:
                raise GGUFError(
                    f"entry {name!r}: expected {known.sums.shape} values in every importance matrix, "
                    f"got {entry.sums.shape}; they come from different models"
                )
        total.datasets = tuple(dict.fromkeys((*total.datasets, *part.datasets)))
        total.chunks += part.chunks
        total.chunk_size = part.chunk_size
    return total


def _read_gguf(path: Path) -> Imatrix:
    with GGUFFile.open(path) as file:
        if file.metadata.get("general.type") != "imatrix":
            raise GGUFError(
                f"{path}: key 'general.type': expected 'imatrix', got a GGUF file of another kind; {_REMEDY}"
            )
        entries = {}
        for tensor in file.tensors:
            if tensor.endswith(_SUMS):
                name = tensor.removesuffix(_SUMS)
                entries[name] = _entry(file, path, name)
        if not entries:
            raise GGUFError(f"{path}: expected tensors NAME{_SUMS}, got none; {_REMEDY}")
        datasets = file.metadata.get("imatrix.datasets", ())
        texts = tuple(filter(None, map(str, datasets))) if isinstance(datasets, GGUFArray) else ()
        return Imatrix(
            entries, texts, _number(file.metadata, "imatrix.chunk_count"), _number(file.metadata, "imatrix.chunk_size")
        )


def _entry(file: GGUFFile, path: Path, name: str) -> Squares:
    arrays = []
    for suffix in (_SUMS, _COUNTS):
        info = file.tensors.get(name + suffix)
        if info is None or info.format.name != "F32":
            got = "no such tensor" if info is None else info.format.name
            raise GGUFError(f"{path}: tensor {name + suffix!r}: expected F32, got {got}; {_REMEDY}")
        arrays.append(file.data(name + suffix).view("<f4").astype(np.float32).reshape(-1, info.shape[-1]))
    sums, counts = arrays
    if counts.size != len(sums):
        raise GGUFError(
            f"{path}: tensor {name + _COUNTS!r}: expected {len(sums)} counts (one for each matrix), "
            f"got {counts.size}; {_REMEDY}"
        )
    _check(path, name, sums)
    return Squares(sums, counts.ravel())


def _check(path: Path, name: str, sums: NDArray[np.float32]) -> None:
    if not np.isfinite(sums).all() or (sums < 0).any():
        raise GGUFError(
            f"{path}: entry {name!r}: expected sums of squares, got values below 0 or not finite; {_REMEDY}"
        )


def _number(metadata: Mapping[str, object], key: str) -> int:
    """A count that no array bears out; 0 where the file has none that could be."""
    value = metadata.get(key)
    return value if isinstance(value, int) and 0 <= value < 1 << 32 else 0


class _Binary:
    """Little-endian int32 numbers, strings and arrays, one after the other, each checked against what is left."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._at = file.seek(0)
        self._size = os.fstat(file.fileno()).st_size

    @property
    def left(self) -> int:
        return self._size - self._at

    def take(self, count: int, what: str, most: int | None = None) -> bytes:
        if not 0 <= count <= min(self.left, self.left if most is None else most):
            raise GGUFError(
                f"{self.path}: byte {self._at}: {what}: expected an importance matrix, of GGUF or of the older binary "
                f"format, got {count} bytes to read where {self.left} are left; {_REMEDY}"
            )
        self._at += count
        try:
            data = self._file.read(count)
        except OSError as error:
            raise GGUFError(f"{self.path}: cannot be read: {reason(error, 'check the disk')}") from None
        if len(data) < count:
            raise GGUFError(f"{self.path}: has become shorter while it was read; {_REMEDY}")
        return data

    def integer(self, what: str) -> int:
        value: int = struct.unpack("<i", self.take(4, what))[0]
        return value

    def text(self, what: str) -> str:
        return self.take(self.integer(f"length of {what}"), what, _MOST_NAME).decode("utf-8", "replace")


def _read_binary(data: _Binary) -> Imatrix:
    """int32 entries; of each: name, calls, number of values, their float32; at last chunks and the text's name."""
    found = Imatrix()
    for _ in range(data.integer("number of entries")):
        name = data.text("name of an entry")
        calls, count = data.integer(f"calls of {name!r}"), data.integer(f"values of {name!r}")
        values = np.frombuffer(data.take(4 * count, f"values of {name!r}"), "<f4").astype(np.float32)
        _check(data.path, name, values)
        # A value is the mean times the calls; what a call counts (a chunk, in newer files) is not told.
        found.entries[name] = Squares(values[None, :], np.array([calls], np.float32))
    if not found.entries:
        raise GGUFError(f"{data.path}: expected entries, got none; {_REMEDY}")
    if data.left:
        found.chunks = max(0, data.integer("chunks"))
        found.datasets = (data.text("name of the text"),)
    return found
