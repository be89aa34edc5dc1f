"""A projector file, loaded: pictures in, rows for the language model out."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.memory import MemoryNeed, memory_need
from llamaq.errors import ClosedError, ModelError, not_numbers
from llamaq.gguf import GGUFFile
from llamaq.plan.graph import Graph, Plan
from llamaq.plan.inserted import Inserted
from llamaq.vision.hparams import keys_of
from llamaq.vision.preprocess import PictureSource, picture_of
from llamaq.vision.projector import Projector, Tile
from llamaq.vision.projectors import projector_of
from llamaq.vision.tensors import VisionTensors

__all__ = ["STORE_BYTES", "Encoder", "Traced", "traced"]

STORE_BYTES = 1 << 26  # of rows that are kept for pictures that come again
_KNOWN = 1 << 12  # pictures whose ids are kept for longer, since the cache may know texts with them


@dataclass(frozen=True)
class Traced:
    """A projector file understood: its kind, tensors and plan."""

    projector: Projector
    tensors: VisionTensors
    plan: Plan

    def need(self, threads: int) -> MemoryNeed:
        """Bytes that it takes once loaded."""
        rows = self.projector.most_patches
        return memory_need(self.plan, self.tensors.tensors, rows, cache_type="f16", max_rows=rows, threads=threads)


def traced(file: GGUFFile) -> Traced:
    """Raises ``ModelError`` for a file that is no projector, is of an unknown kind, or does not fit together."""
    shapes = {name: info.shape for name, info in file.tensors.items()}
    projector = projector_of(keys_of(file.metadata, shapes))
    tensors = VisionTensors(file, projector)
    g = Graph({name: info.shape for name, info in tensors.tensors.items()})
    out = projector.trace(g)
    if out.cols != projector.columns:
        raise ModelError(
            f"clip.vision.projection_dim is {projector.hp.columns}; expected {out.cols}, the rows of {out.source!r}"
        )
    projector.keep(tensors.table)
    return Traced(projector, tensors, g.plan(out))


class Encoder:
    """Makes rows of pictures for a language model of so many ``columns``, whose vocabulary ends before ``first_id``.

    Results are kept for pictures that come again, ``STORE_BYTES`` of them; rows of equal pictures have equal ids. Any
    thread may use it. Raises ``ModelError``, ``GGUFError``.
    """

    def __init__(
        self, file: GGUFFile, of: Traced, *, columns: int, first_id: int, threads: int,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.file, self.projector, self.plan = file, of.projector, of.plan
        if of.plan.out_cols != columns:
            raise ModelError(
                f"the projector makes rows of {of.plan.out_cols} floats, the model reads {columns}; they "
                "belong to different models"
            )
        rows = of.projector.most_patches
        self._engine = Engine(of.plan, of.tensors, threads=threads, max_rows=rows, progress=progress)
        self._cache = KVCache(of.plan, rows)
        self._lock = Lock()
        self._next_id = first_id
        self._kept: OrderedDict[bytes, Inserted] = OrderedDict()
        self._ids: OrderedDict[bytes, int] = OrderedDict()
        self._closed = False

    def close(self) -> None:
        """Frees the weights at once."""
        with self._lock:
            self._closed = True
            self._engine.close()
            self._kept.clear()
            self.file.close()

    def pieces(self, source: PictureSource) -> list[str | Inserted]:
        """What stands in a prompt in the place of a picture: text with special tokens, and rows. Raises ``ImageError``,
        ``ClosedError``, ``ModelError`` where the encoder's numbers are none."""
        pieces = self.projector.pieces(picture_of(source))
        return [piece if isinstance(piece, str) else self.rows(piece.pixels) for piece in pieces]

    def rows(self, tile: Tile) -> Inserted:
        """The rows of one tile."""
        shape = str(tile.shape).encode()
        key = hashlib.blake2b(shape + np.ascontiguousarray(tile).tobytes(), digest_size=32).digest()
        with self._lock:
            if self._closed:
                raise ClosedError("the model is closed; load it again")
            found = self._kept.get(key) or self._insert(key, *self._encoded(tile))
            self._kept.move_to_end(key)
            return found

    def _encoded(self, tile: Tile) -> tuple[NDArray[np.float32], tuple[int, int] | None]:
        read = self.projector.patches(tile)
        step = self.projector.step(read)
        rows = self._engine.forward(step, self._cache)
        rows = rows if read.back is None else rows[read.back]
        if not np.isfinite(rows).all():
            raise not_numbers("states of a picture")
        return rows, read.grid

    def _insert(self, key: bytes, rows: NDArray[np.float32], grid: tuple[int, int] | None) -> Inserted:
        first = self._ids.pop(key, self._next_id)
        if first == self._next_id:
            self._next_id += len(rows)
        self._ids[key] = first
        if len(self._ids) > _KNOWN:
            self._ids.popitem(last=False)
        found = self._kept[key] = Inserted(first, rows, self.projector.together, grid)
        while len(self._kept) > 1 and sum(each.rows.nbytes for each in self._kept.values()) > STORE_BYTES:
            self._kept.popitem(last=False)
        return found
