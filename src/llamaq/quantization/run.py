"""Quantizes a file: tensor by tensor, a piece at a time, with the next piece in work while one is written."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import GGUFError, QuantizationError
from llamaq.formats import byteswap, decode, encode
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.gguf.split import part_path, split_keys
from llamaq.quantization.plan import Importance, Options, Plan, TensorPlan, load_importance, make_plan
from llamaq.topology import default_threads

__all__ = ["REFERENCE_FORMATS", "quantize", "run_plan"]

REFERENCE_FORMATS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
"""Those that the gguf package can write."""

_PIECE = 1 << 23  # weights of a piece: some dozen megabytes in memory at a time

_AHEAD = 2  # pieces in work while one is written
_LEAST_WEIGHT = 1e-8  # of the greatest

Progress = Callable[[int, int], None]


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    type: str = "Q4_K_M",
    *,
    imatrix: str | os.PathLike[str] | Mapping[str, NDArray[np.float32]] | None = None,
    pure: bool = False,
    tensor_types: Sequence[tuple[str, str]] | Mapping[str, str] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    leave_output_tensor: bool = False,
    allow_requantize: bool = False,
    keep_split: bool = False,
    override_kv: Mapping[str, int | float | bool | str] | None = None,
    reference: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes ``source`` quantized to ``type`` and returns the path (of the first part).

    ``type`` is a name, an alias or a number that llama.cpp knows (``llamaq.quantization.FILE_TYPES``), or "COPY";
    each tensor gets the format that llama.cpp chooses. ``target`` is by default ``ggml-model-<TYPE>.gguf`` beside
    the source. ``imatrix`` is a file of ``llamaq imatrix`` or llama.cpp, or mean squared activations by tensor
    name (float32, columns or experts x columns): the squared error that is made small is weighted by them.

    ``pure`` gives every matrix the type's own format; ``tensor_types`` pairs of a regular expression and a format
    (the first match wins), ``output_tensor_type`` and ``token_embedding_type`` choose for some;
    ``leave_output_tensor`` keeps output.weight. ``allow_requantize`` takes quantized weights as a source.
    ``keep_split`` writes as many parts as there are, named after ``target``; ``override_kv`` replaces metadata.
    ``reference`` searches for nothing and gives the bytes of the ``gguf`` package (formats that it can write).
    ``progress`` is called with bytes read and their total. The result does not depend on ``threads`` or the CPU.

    Raises GGUFError for files that cannot be read or written (nothing is left then), QuantizationError for
    weights that are infinite or no numbers and whatever else cannot be quantized, ValueError for unknown types.
    """
    pairs = tuple(tensor_types.items()) if isinstance(tensor_types, Mapping) else tuple(tensor_types)
    options = Options(
        pure=pure,
        leave_output_tensor=leave_output_tensor,
        output_tensor_type=output_tensor_type,
        token_embedding_type=token_embedding_type,
        tensor_types=pairs,
        allow_requantize=allow_requantize,
        override_kv=override_kv or {},
    )
    importance = None if imatrix is None else _importance(imatrix)
    with GGUFFile.open(source) as file:
        plan = make_plan(file, type, options, importance)
        name = plan.file_type.name if plan.file_type else type.upper()
        path = Path(target) if target is not None else file.path.with_name(f"ggml-model-{name}.gguf")
        return run_plan(
            plan,
            path,
            importance=importance,
            keep_split=keep_split,
            reference=reference,
            threads=threads,
            progress=progress,
        )


def _importance(imatrix: str | os.PathLike[str] | Mapping[str, NDArray[np.float32]]) -> Importance:
    return Importance(imatrix) if isinstance(imatrix, Mapping) else load_importance(imatrix)


def run_plan(
    plan: Plan,
    target: Path,
    *,
    importance: Importance | None = None,
    keep_split: bool = False,
    reference: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Does what the plan says; arguments, result and errors as for `quantize`."""
    parts = _parts(plan, target, keep_split)
    sources = {path.resolve() for path in plan.file.paths}
    for path in parts:
        if path.resolve() in sources:
            raise GGUFError(f"{path}: is the file that is read; give the new file another name")
    with contextlib.ExitStack() as stack:
        read = _Reader(plan.file, stack)
        search = _Search(reference, threads or default_threads().threads)
        stream = stack.enter_context(_Stream(plan, read, search, importance.means if importance else {}, progress))
        done: list[Path] = []
        try:
            for index, (path, tensors) in enumerate(parts.items()):
                metadata: Mapping[str, object] = plan.metadata if index == 0 else {}
                split = split_keys(index, len(parts), len(plan.tensors)) if len(parts) > 1 else {}
                data = [TensorData(t.info.name, t.format, t.info.shape, stream.pieces(t)) for t in tensors]
                write_gguf(path, {**metadata, **split}, data, types=plan.types)  # type: ignore[dict-item]
                done.append(path)
        except BaseException:
            for path in done:
                path.unlink(missing_ok=True)
            raise
    return next(iter(parts))


def _parts(plan: Plan, target: Path, keep_split: bool) -> dict[Path, list[TensorPlan]]:
    """The files to write, and the tensors of each."""
    count = len(plan.file.paths)
    if not keep_split or count == 1:
        return {target: list(plan.tensors)}
    prefix = target.with_name(target.name.removesuffix(".gguf"))
    paths = [part_path(prefix, index, count) for index in range(count)]
    return {path: [t for t in plan.tensors if t.info.shard == index] for index, path in enumerate(paths)}


class _Reader:
    """Reads rows with plain reads: a disk that fails is then an error, not the end of the process."""

    def __init__(self, file: GGUFFile, stack: contextlib.ExitStack) -> None:
        self._file = file
        self._lock = threading.Lock()  # a place to read at belongs to one reader
        self._handles = [stack.enter_context(path.open("rb", buffering=0)) for path in file.paths]

    def __call__(self, tensor: TensorPlan, first: int, rows: int) -> NDArray[np.uint8]:
        info = tensor.info
        row_bytes = info.format.row_bytes(info.shape[-1])
        data = np.empty((rows, row_bytes), np.uint8)
        path, handle, view = self._file.paths[info.shard], self._handles[info.shard], data.reshape(-1).data
        try:
            with self._lock:
                handle.seek(info.offset + first * row_bytes)
                while view.nbytes:
                    count = handle.readinto(view)
                    if not count:
                        raise OSError(None, "the file has become shorter")
                    view = view[count:]
        except OSError as error:
            raise GGUFError(
                f"{path}: tensor {info.name!r}: cannot be read: {error.strerror}; check the disk, copy the file again"
            ) from error
        return data if self._file.mapped else byteswap(info.format, data)


class _Search:
    """Rows of one format as rows of another."""

    def __init__(self, reference: bool, threads: int) -> None:
        from llamaq import _core

        self._core, self._reference = _core, reference
        self._team = _core.ThreadTeam(threads, False)

    def __call__(
        self, tensor: TensorPlan, first: int, data: NDArray[np.uint8], weights: NDArray[np.float32] | None
    ) -> NDArray[np.uint8]:
        source, target, cols = tensor.info.format, tensor.format, tensor.info.shape[-1]
        if self._reference and target.block > 1:
            bad, result = self._encoded(tensor, data)
        else:
            result = np.empty((len(data), tensor.row_bytes), np.uint8)
            bad = self._core.quantize(self._team, source.id, target.id, data, cols, weights, result)
        if bad is not None:
            raise QuantizationError(
                f"tensor {tensor.info.name!r}, row {first + bad}: expected finite weights, got NaN, infinity or "
                "more than 2 ** 50; the file is damaged or was converted wrongly: convert the model again"
            )
        return result

    def _encoded(self, tensor: TensorPlan, data: NDArray[np.uint8]) -> tuple[int | None, NDArray[np.uint8]]:
        if tensor.format.name not in REFERENCE_FORMATS:
            raise QuantizationError(
                f"tensor {tensor.info.name!r}: {tensor.format.name} has no reference encoding; expected one of "
                f"{', '.join(REFERENCE_FORMATS)} for every matrix (--pure), or leave out --reference"
            )
        values = decode(tensor.info.format, data)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=-1))
        return (int(bad[0]), data) if bad.size else (None, encode(tensor.format, values))


@dataclass(frozen=True)
class _Piece:
    tensor: TensorPlan
    first: int
    rows: int


class _Stream(contextlib.AbstractContextManager["_Stream"]):
    """All pieces of the new file in order; while one is written the next is read and searched."""

    def __init__(
        self,
        plan: Plan,
        read: _Reader,
        search: _Search,
        importance: Mapping[str, NDArray[np.float32]],
        progress: Progress | None,
    ) -> None:
        self._read, self._search, self._importance, self._progress = read, search, importance, progress
        self._done, self._total = 0, plan.source_nbytes
        self._queue = iter([piece for tensor in plan.tensors for piece in _cut(tensor)])
        # The search of one piece has all threads; the other worker reads the next piece, and waits for them.
        self._pool = ThreadPoolExecutor(_AHEAD, "llamaq-quantize")
        self._ahead: deque[Future[NDArray[np.uint8]]] = deque()

    def __enter__(self) -> _Stream:
        for _ in range(_AHEAD):
            self._start_next()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def pieces(self, tensor: TensorPlan) -> Iterator[NDArray[np.uint8]]:
        """The bytes of a tensor; tensors are asked for in their order."""
        for piece in _cut(tensor):
            data = self._ahead.popleft().result()
            self._start_next()
            yield data
            self._done += piece.rows * tensor.info.format.row_bytes(tensor.info.shape[-1])
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _start_next(self) -> None:
        piece = next(self._queue, None)
        if piece is not None:
            self._ahead.append(self._pool.submit(self._work, piece))

    def _work(self, piece: _Piece) -> NDArray[np.uint8]:
        tensor = piece.tensor
        data = self._read(tensor, piece.first, piece.rows)
        if tensor.copied:
            return data
        return self._search(tensor, piece.first, data, self._weights(piece))

    def _weights(self, piece: _Piece) -> NDArray[np.float32] | None:
        """The importance of the columns of these rows."""
        values, info = self._importance.get(piece.tensor.info.name), piece.tensor.info
        if values is None:
            return None
        matrices = values.reshape(-1, info.shape[-1])
        row = matrices[piece.first // info.shape[-2] if len(matrices) > 1 else 0].astype(np.float32)
        # Only their ratios count. A column that was never used still decides where nothing else does.
        return np.maximum(row / row.max(), np.float32(_LEAST_WEIGHT)) if row.max() > 0 else None


def _cut(tensor: TensorPlan) -> Iterator[_Piece]:
    """Pieces of whole rows, each of one matrix."""
    shape = tensor.info.shape
    rows_each = shape[-2] if len(shape) > 2 else tensor.rows
    step = max(1, _PIECE // max(1, shape[-1]))
    for start in range(0, tensor.rows, max(1, rows_each)):
        for first in range(start, start + rows_each, step):
            yield _Piece(tensor, first, min(step, start + rows_each - first))
