"""A model with adapters merged into it: a file whose matrices are W + scale * B @ A."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import MOST_SCALE, MOST_THREADS, path_of, real, whole
from llamaq.boundary.progress import Progress
from llamaq.engine.adapter_file import HEAD, TABLE, Pair, pairs_of
from llamaq.errors import GGUFError, ModelError, QuantizationError, naming
from llamaq.formats import Format, can_decode, decode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, TensorInfo, write_gguf
from llamaq.gguf.split import SPLIT_KEYS
from llamaq.quantization.encode import Search
from llamaq.quantization.plan import TensorPlan

__all__ = ["merge_adapters"]

F32 = NDArray[np.float32]
_PIECE = 1 << 20  # weights at a time
_F32 = format_by_name("F32")


def merge_adapters(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    adapters: Mapping[str, float] | Mapping[os.PathLike[str], float],
    *,
    type: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes a model of one or several files with ``adapters``, GGUF files and their scales, merged into it.

    Matrices that change keep their formats, or get the format ``type``; all else is copied. Where the embeddings serve
    as the output, too, and an adapter changes one of both, the output becomes a tensor of its own. The bytes do not
    depend on ``threads`` or the CPU; memory: the factors of one matrix and some megabytes. ``progress`` gets bytes read
    and in total. Raises ``ModelError`` for an adapter that does not fit, ``QuantizationError`` for weights that are no
    numbers or a format that does not fit, ``GGUFError`` where the disk refuses; ``target`` is then as it was.
    """
    out = path_of("target", target)
    scales = {path_of("each of adapters", path): real("each scale of adapters", scale, -MOST_SCALE, MOST_SCALE)
              for path, scale in adapters.items()}  # fmt: skip
    wanted = None if type is None else _format(type)
    search = Search(None if threads is None else whole("threads", threads, 1, MOST_THREADS))
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(GGUFFile.open(path_of("source", source)))
        parts: list[_Part] = []
        for path, scale in scales.items():
            adapter = stack.enter_context(GGUFFile.open(path))
            try:
                parts += [(adapter, pair, scale) for pair in pairs_of(adapter, file)]
            except ModelError as error:
                error.args = (f"{path}: {error}",)
                raise
        if os.path.realpath(out) in map(os.path.realpath, [*file.paths, *scales]):
            raise GGUFError(f"{out}: is a file that is read; give the new file another name")
        merged = _Merged(file, parts, wanted, search, progress)
        metadata = {key: value for key, value in file.metadata.items() if key not in SPLIT_KEYS}
        types = {key: file.metadata_types[key] for key in metadata}
        write_gguf(out, metadata, merged.tensors(), types=types)


_Part = tuple[GGUFFile, Pair, float]


class _Merged:
    """The tensors of the new file, made as they are written."""

    def __init__(
        self, file: GGUFFile, parts: Sequence[_Part], type: Format | None, search: Search, progress: Progress | None
    ) -> None:
        self._file, self._type, self._search, self._progress = file, type, search, progress
        self._parts: dict[str, list[_Part]] = {}
        for part in parts:
            self._parts.setdefault(part[1].name, []).append(part)
        self._sources = dict(file.tensors)
        tied = HEAD not in file.tensors and file.metadata.get(f"{self._architecture}.attention.causal", True)
        if tied and {HEAD, TABLE} & self._parts.keys():
            self._sources[HEAD] = file.tensors[TABLE]
        self._done, self._total = 0, sum(info.nbytes for info in self._sources.values())

    @property
    def _architecture(self) -> str:
        return str(self._file.metadata.get("general.architecture"))

    def tensors(self) -> list[TensorData]:
        """All of them, in the order of the file."""
        return [self._tensor(name, info) for name, info in self._sources.items()]

    def _tensor(self, name: str, info: TensorInfo) -> TensorData:
        parts = self._parts.get(name, [])
        format = self._type if parts and self._type is not None else info.format
        where = f"{self._file.path}: tensor {name!r}"
        if parts and not can_decode(info.format):
            raise QuantizationError(
                f"{where}: {info.format.name} cannot be decoded; merge into another file of the model"
            )
        if info.shape[-1] % format.block:
            message = f"{where}: rows of {info.shape[-1]} are no blocks of {format.name}; choose another type"
            raise naming(QuantizationError(message), "type")
        return TensorData(name, format, info.shape, self._pieces(info, format, parts))

    def _pieces(self, info: TensorInfo, format: Format, parts: list[_Part]) -> Iterator[NDArray[np.uint8]]:
        *outer, rows, cols = (1, *info.shape) if len(info.shape) < 2 else info.shape
        step = max(1, _PIECE // max(1, cols))
        matrices = self._file.data(info.name).reshape(math.prod(outer), rows, -1)
        for index, matrix in enumerate(matrices):
            factors = [_factors(*part, index) for part in parts]
            for first in range(0, rows, step):
                piece = np.ascontiguousarray(matrix[first : first + step])
                yield self._changed(info, format, first, piece, factors) if factors else piece
                self._done += piece.nbytes
                if self._progress is not None:
                    self._progress(self._done, self._total)

    def _changed(
        self, info: TensorInfo, format: Format, first: int, piece: NDArray[np.uint8], factors: list[tuple[F32, F32]]
    ) -> NDArray[np.uint8]:
        values = self._search.values(info.format, piece)
        for left, right in factors:
            for k in range(len(right)):  # one order of additions on every machine, which a matrix product has not
                values += left[first : first + len(piece), k : k + 1] * right[k]
        plan = TensorPlan(replace(info, format=_F32), format)
        raw = values.view(np.uint8)
        if plan.copied:
            return raw
        return self._search(plan, first, raw, None)


def _factors(adapter: GGUFFile, pair: Pair, scale: float, index: int) -> tuple[F32, F32]:
    """What stands left (rows, rank), with the scale in it, and right (rank, columns) in the product for a matrix."""
    found = ((info.format, adapter.data(info.name)) for info in (pair.a, pair.b))
    a, b = (decode(format, data[index] if data.ndim == 3 else data) for format, data in found)
    left, right = (a, b.T) if pair.table else (b, a)
    return (left.astype(np.float64) * (pair.scale * scale)).astype(np.float32), np.ascontiguousarray(right, np.float32)


def _format(name: str) -> Format:
    try:
        return format_by_name(name)
    except ValueError as error:
        raise naming(ValueError(f"type: {error}"), "type") from None
