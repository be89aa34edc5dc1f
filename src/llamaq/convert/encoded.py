"""New tensors read from a checkpoint and encoded, some rows at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.mxfp4 import read_blocks
from llamaq.convert.rope import neighbours
from llamaq.convert.views import NewTensor, View
from llamaq.errors import ModelError, naming
from llamaq.formats import Format, encode, format_by_name
from llamaq.gguf import TensorData
from llamaq.quantization.choice import allows_quantization

__all__ = ["OUTTYPES", "WORKERS", "check_magnitude", "counted", "encoded", "pieces_of"]

OUTTYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
"""Formats of the matrices, with their numbers in ``general.file_type``."""
WORKERS = 4
"""Threads that read and encode while one writes."""
_MOST = {"F16": 65504.0, "Q8_0": 65504.0 * 127, "BF16": 2.0**128 - 2.0**120}
"""Magnitudes that a format holds: Q8_0 has scales in binary16 and weights up to 127 of them."""


def counted(tensors: list[TensorData], progress: Progress) -> list[TensorData]:
    """The same tensors; ``progress`` is told of each piece that is written."""
    done, total = 0, sum(math.prod(tensor.shape) for tensor in tensors)

    def pieces(tensor: TensorData) -> Iterator[Any]:
        nonlocal done
        for piece in pieces_of(tensor):
            yield piece
            done += piece.nbytes // tensor.format.block_bytes * tensor.format.block
            progress(done, total)

    return [tensor._replace(data=pieces(tensor)) for tensor in tensors]


def pieces_of(tensor: TensorData) -> Iterator[NDArray[Any]]:
    """The data of a tensor that is encoded piece by piece."""
    return cast("Iterator[NDArray[Any]]", tensor.data)


def check_magnitude(name: str, weights: NDArray[np.float32], format: Format) -> None:
    """Raises ModelError for weights of the tensor ``name`` that a format does not hold."""
    most = np.abs(weights).max()
    if most > _MOST.get(format.name, math.inf):
        message = (
            f"tensor {name!r}: expected values up to {_MOST[format.name]:.0f}, the most that {format.name} "
            f"holds, got {most:.0f}; choose outtype {'f32' if format.name == 'BF16' else 'bf16 or f32'}"
        )
        raise naming(ModelError(message), "outtype")


def encoded(checkpoint: Checkpoint, new: NewTensor, outtype: str, pool: ThreadPoolExecutor) -> TensorData:
    """A tensor to write, whose pieces the pool makes. They raise ModelError for weights that cannot be read or that
    the format does not hold."""
    format = format_by_name("MXFP4") if new.packed else _format(new.name, outtype, new.shape)
    head_rows = new.views[0].shape[0] // new.heads if new.heads else 1

    def piece(view: View, span: range) -> NDArray[np.uint8]:
        if new.packed:
            return read_blocks(checkpoint, view, span)
        rows = checkpoint.read(view, span)
        check_magnitude(view.name, rows, format)
        rows = neighbours(rows, len(rows) // head_rows) if new.heads else rows
        if new.columns:
            rows = np.concatenate([rows[:, c.start : c.stop : c.step] for c in new.columns], axis=1)
        if new.negative_exp:
            rows = (-np.exp(rows.astype(np.float64))).astype(np.float32)
        if new.change is not None:
            rows = new.change(rows)
        return encode(format, rows + np.float32(new.shift) if new.shift else rows)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        for view in new.views:
            for span in checkpoint.spans(view, head_rows):
                waiting.append(pool.submit(piece, view, span))
                if len(waiting) > 2 * WORKERS:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    return TensorData(new.name, format, new.shape, pieces())


def _format(name: str, outtype: str, shape: tuple[int, ...]) -> Format:
    if not allows_quantization(name, shape) or (name.startswith("v.") and "position_embd" in name):
        return format_by_name("F32")
    wanted = format_by_name(outtype)
    return wanted if shape[-1] % wanted.block == 0 else format_by_name("F16")
