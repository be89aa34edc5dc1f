"""Quantizes a file: tensor by tensor, a piece at a time, with the next piece in work while one is written."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import MOST_THREADS, flag, function, instance, items, path_of, shown, texts, whole
from llamaq.boundary.arguments import text as text_of
from llamaq.boundary.atomic import discard
from llamaq.boundary.calls import answering
from llamaq.boundary.files import open_file
from llamaq.boundary.progress import Progress
from llamaq.errors import GGUFError
from llamaq.formats import byteswap
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.gguf.split import part_path
from llamaq.hub import Found, resolve
from llamaq.quantization.budget import Budget, fit
from llamaq.quantization.encode import Search
from llamaq.quantization.importance import Importance
from llamaq.quantization.plan import Options, Plan, TensorPlan, make_plan
from llamaq.quantization.types import COPY

__all__ = ["default_path", "quantize", "run_plan"]

_PIECE = 1 << 23  # weights in a piece: some dozen megabytes in memory at a time

_AHEAD = 2  # pieces in work while one is written


@answering()
def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    type: str | None = None,
    *,
    imatrix: str | os.PathLike[str] | Mapping[str, NDArray[np.float32]] | None = None,
    target_size: int | str | None = None,
    target_bpw: float | None = None,
    max_kl: float | None = None,
    text: str | bytes | None = None,
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
    """Writes ``source``, a path or a model's name, quantized to ``type`` or to a budget; the path (of the first part).

    ``type`` is a name, an alias or a number that llama.cpp knows (``llamaq.quantization.FILE_TYPES``; by default
    Q4_K_M), or "COPY"; each tensor gets the format that llama.cpp chooses. Instead of it, one of ``target_size`` (bytes
    of the file, or "4.5GiB"), ``target_bpw`` (bits per weight) and ``max_kl`` (mean divergence over ``text``, nats)
    chooses formats with the least divergence or size; ``text`` tells how much each group of tensors counts.
    ``target`` is by default ``ggml-model-<TYPE>.gguf`` beside the source (of which the path is given), which must not
    be there. ``imatrix`` is a file of ``llamaq imatrix`` or llama.cpp, or mean squared activations by tensor name
    (float32, columns or experts x columns): the squared error that is made small is weighted by them.

    ``pure`` gives every matrix the type's own format; ``tensor_types`` pairs of a regular expression and a format
    (the first match wins), ``output_tensor_type`` and ``token_embedding_type`` choose for some;
    ``leave_output_tensor`` keeps output.weight. ``allow_requantize`` takes quantized weights as a source.
    ``keep_split`` writes as many parts as there are, named after ``target``; ``override_kv`` replaces metadata.
    ``reference`` searches for nothing and gives the bytes of the ``gguf`` package (formats that it can write).
    ``progress`` is called with bytes read and their total. The result does not depend on ``threads`` or the CPU.
    Raises GGUFError for files that cannot be read or written (nothing is left then), what ``llamaq.hub.resolve`` does,
    QuantizationError for weights that are no finite numbers and what else cannot be quantized, ValueError for types.
    """
    target = None if target is None else path_of("target", target)
    type = None if type is None else text_of("type", type)
    threads = None if threads is None else whole("threads", threads, 1, MOST_THREADS)
    progress = None if progress is None else function("progress", progress)
    keep_split, reference = flag("keep_split", keep_split), flag("reference", reference)
    options = Options(pure, leave_output_tensor, output_tensor_type, token_embedding_type,
                      _pairs(tensor_types), allow_requantize, _metadata(override_kv))  # fmt: skip
    budget = Budget.of(target_size, target_bpw, max_kl, text)
    importance = None if imatrix is None else _importance(imatrix)
    with GGUFFile.open(_found(source, target)) as file:
        if budget is None:
            plan = make_plan(file, type or "Q4_K_M", options, importance)
        elif type is None and not reference:
            plan = fit(file, budget, options, importance, keep_split=keep_split, threads=threads).plan
        else:
            raise ValueError("expected a budget or a type, or the reference encoding of a type; got both")
        target = target or default_path(plan, fitted=budget is not None, keep_split=keep_split)
        return run_plan(plan, target, importance=importance, keep_split=keep_split, reference=reference,
                        threads=threads, progress=progress)  # fmt: skip


def default_path(plan: Plan, *, fitted: bool = False, keep_split: bool = False) -> Path:
    """Beside the source; with the bits per weight where a budget chose the formats. Raises ``GGUFError`` where
    something is there already: only a file that the user names is replaced."""
    name = plan.file_type.name if plan.file_type else COPY
    target = plan.file.path.with_name(f"ggml-model-{f'{plan.bits_per_weight:.2f}bpw' if fitted else name}.gguf")
    for path in _paths(target, len(plan.parts(keep_split))):
        if os.path.lexists(path):
            raise GGUFError(f"{path}: is there already; name the file to write (this one, if it is to be replaced)")
    return target


def _found(source: str | os.PathLike[str], target: Path | None) -> Found:
    path_of("source", source)
    found = resolve(source)
    if target is None and not found.is_path:
        raise ValueError(f"{found.name} is a model of another place ({found.source}): name the file to write, target")
    return found


def _importance(imatrix: str | os.PathLike[str] | Mapping[str, NDArray[np.float32]]) -> Importance:
    return Importance.of(imatrix if isinstance(imatrix, Mapping) else path_of("imatrix", imatrix))


def _metadata(override_kv: Mapping[str, int | float | bool | str] | None) -> Mapping[str, int | float | bool | str]:
    found = {} if override_kv is None else instance("override_kv", override_kv, Mapping)  # type: ignore[type-abstract]
    return {text_of("each key of override_kv", key): value for key, value in found.items()}


def _pairs(tensor_types: Sequence[tuple[str, str]] | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if isinstance(tensor_types, Mapping):
        tensor_types = [*tensor_types.items()]
    found = [texts("each of tensor_types", pair) for pair in items("tensor_types", tensor_types, "pairs")]
    if any(len(pair) != 2 for pair in found):
        raise ValueError(f"tensor_types must be pairs of a pattern and a format, got {shown(tensor_types)}")
    return tuple((pattern, name) for pattern, name in found)


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
    parts = plan.parts(keep_split)
    paths = _paths(target, len(parts))
    sources = set(map(os.path.realpath, plan.file.paths))
    for path in paths:
        if os.path.realpath(path) in sources:
            raise GGUFError(f"{path}: is the file that is read; give the new file another name")
    with contextlib.ExitStack() as stack:
        read = _Reader(plan.file, stack)
        search = Search(threads, reference=reference)
        stream = stack.enter_context(_Stream(plan, read, search, importance or Importance(), progress))
        done: list[Path] = []
        try:
            for path, (metadata, tensors) in zip(paths, parts, strict=True):
                data = [TensorData(t.info.name, t.format, t.info.shape, stream.pieces(t)) for t in tensors]
                write_gguf(path, metadata, data, types=plan.types)
                done.append(path)
        except BaseException:
            for path in done:
                discard(path)
            raise
    return paths[0]


def _paths(target: Path, count: int) -> list[Path]:
    """The files to write."""
    if count == 1:
        return [target]
    prefix = target.with_name(target.name.removesuffix(".gguf"))
    return [part_path(prefix, index, count) for index in range(count)]


class _Reader:
    """Reads rows with plain reads: a disk that fails is then an error, not the end of the process."""

    def __init__(self, file: GGUFFile, stack: contextlib.ExitStack) -> None:
        self._file = file
        self._lock = threading.Lock()  # a place to read at belongs to one reader
        self._handles = [stack.enter_context(open_file(path, GGUFError)) for path in file.paths]

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
        search: Search,
        importance: Importance,
        progress: Progress | None,
    ) -> None:
        self._read, self._search, self._importance, self._progress = read, search, importance, progress
        self._done, self._total = 0, plan.source_nbytes
        self._queue = (piece for tensor in plan.tensors for piece in _cut(tensor))
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
        weights = self._importance.weights(tensor.info, piece.first)
        return self._search(tensor, piece.first, data, weights)


def _cut(tensor: TensorPlan) -> Iterator[_Piece]:
    """Pieces of whole rows, each of one matrix."""
    shape = tensor.info.shape
    rows_each = shape[-2] if len(shape) > 2 else tensor.rows
    step = max(1, _PIECE // max(1, shape[-1]))
    for start in range(0, tensor.rows, max(1, rows_each)):
        for first in range(start, start + rows_each, step):
            yield _Piece(tensor, first, min(step, start + rows_each - first))
