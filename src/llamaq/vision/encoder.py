"""A projector file, loaded: pictures in, rows for the language model out."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.progress import Progress
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.memory import MemoryNeed, memory_need
from llamaq.errors import ClosedError, ContextOverflowError, ImageError, ModelError, naming, not_numbers
from llamaq.gguf import GGUFFile
from llamaq.plan.graph import Graph, Plan
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.vision.patches import Mosaic
from llamaq.vision.preprocess import Picture, PictureSource, picture_of
from llamaq.vision.projector import Piece, Projector, Tile
from llamaq.vision.projectors import projector_in
from llamaq.vision.source import Source
from llamaq.vision.tensors import VisionTensors

__all__ = ["STORE_BYTES", "STORE_PICTURES", "Encoder", "Traced", "traced"]

STORE_BYTES, STORE_PICTURES = 1 << 26, 4
"""Bytes of rows that are kept for pictures that come again, or as many as so many of the largest pictures have."""
_KNOWN = 1 << 12  # pictures whose ids are kept for longer, since the cache may know texts with them
_MOST_BYTES = 1 << 32  # bytes of rows of one prompt


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

    def row_bytes(self, *, precise: bool) -> int:
        """Bytes of a row that is kept."""
        return self.plan.out_cols * (2 if self.projector.looked_at and not precise else 4)

    def store_bytes(self, *, precise: bool) -> int:
        """Bytes of rows that are kept for pictures that come again, at most."""
        return max(STORE_BYTES, STORE_PICTURES * self.projector.most_rows * self.row_bytes(precise=precise))


def traced(file: Source, model: Source | None = None) -> Traced:
    """Understands a projector file, beside that of its ``model``, part of which some kinds need. Raises ``ModelError``
    for one that is no projector, is of an unknown kind, or does not fit together."""
    projector = projector_in(file, model or file)
    tensors = VisionTensors(file, projector, model)
    with np.errstate(all="ignore"):  # what is no number is told of once rows are made
        projector.keep(tensors.table)
    g = Graph({name: info.shape for name, info in tensors.tensors.items()})
    out = projector.trace(g)
    if out.cols != projector.columns:
        raise ModelError(
            f"clip.vision.projection_dim is {projector.hp.columns}; expected {out.cols}, the rows of {out.source!r}"
        )
    return Traced(projector, tensors, g.plan(out))


class Encoder:
    """Makes rows of pictures for a language model of so many ``columns``, whose vocabulary ends before ``first_id``;
    ``later``, its weights are loaded with the first picture.

    ``token`` and ``precise`` are those of ``Projector.inserted``. Results are kept for pictures that come again,
    ``Traced.store_bytes`` of them; rows of equal pictures have equal ids. A prompt has ``n_ctx`` tokens at most (None:
    nobody knows). Any thread may use it. Raises ``ModelError``, ``GGUFError``.
    """

    def __init__(
        self, file: GGUFFile, of: Traced, *, columns: int, first_id: int, threads: int,
        progress: Progress | None = None, token: int = 0, precise: bool = False, later: bool = False,
        n_ctx: int | None = None,
    ) -> None:  # fmt: skip
        self.file, self.projector, self.plan = file, of.projector, of.plan
        if not of.projector.looked_at and of.plan.out_cols != columns:
            raise ModelError(
                f"the projector makes rows of {of.plan.out_cols} floats, the model reads {columns}; they "
                "belong to different models"
            )
        rows = of.projector.most_patches
        self._n_ctx = n_ctx
        self._row_bytes, self._store_bytes = of.row_bytes(precise=precise), of.store_bytes(precise=precise)
        self._inserted = partial(of.projector.inserted, token=token, precise=precise)
        self._load = partial(Engine, of.plan, of.tensors, threads=threads, max_rows=rows, progress=progress)
        self._engine: Engine | None = None if later else self._load()
        self._cache = KVCache(of.plan, rows)
        self._lock = Lock()
        self._next_id = first_id
        self._kept: OrderedDict[bytes, Inserted | LookedAt] = OrderedDict()
        self._ids: OrderedDict[bytes, int] = OrderedDict()
        self._closed = False

    def close(self) -> None:
        """Frees the weights at once."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
            self._kept.clear()
            self.file.close()

    def pieces(self, source: PictureSource) -> list[str | Inserted | LookedAt]:
        """What stands in a prompt in the place of a picture: text with special tokens, and rows. Raises ``ImageError``,
        ``ClosedError``, ``ModelError`` where the encoder's numbers are none."""
        return self.pieces_of([source])[0]

    def pieces_of(
        self, sources: Sequence[PictureSource], progress: Progress | None = None
    ) -> list[list[str | Inserted | LookedAt]]:
        """``pieces`` of several pictures; ``progress`` gets layers that their tiles are through, and in total. Raises
        ``ContextOverflowError`` for more of them than a prompt can have, before any is encoded."""
        cut = self._cut(sources)
        ends = self.plan.layer_ends[1:]
        total = len(ends) * sum(_tiles(piece) for pieces in cut for piece in pieces)
        done = 0

        def tell(ops: int, of_tile: int) -> None:
            if progress is not None:
                whole, begun = divmod(ops, of_tile)
                progress(done + whole * len(ends) + bisect_right(ends, begun - 1), total)

        found: list[list[str | Inserted | LookedAt]] = []
        for pieces in cut:
            found.append([])
            for piece in pieces:
                found[-1].append(piece if isinstance(piece, str) else self.rows(piece, progress and tell))
                done += len(ends) * _tiles(piece)
        tell(0, 1)
        return found

    def _cut(self, sources: Sequence[PictureSource]) -> list[list[str | Tile | Mosaic]]:
        """What is to be encoded, unless it is too much."""
        cut: list[list[str | Tile | Mosaic]] = []
        rows = nbytes = 0
        for source in sources:
            cut.append([_read(piece) for piece in self.projector.pieces(picture_of(source))])
            for piece in cut[-1]:
                if isinstance(piece, str):
                    continue
                own = len(piece.order) if isinstance(piece, Mosaic) else self.projector.rows_of(piece)
                kept = own if isinstance(piece, Mosaic) else self.projector.kept_rows_of(piece)
                rows, nbytes = rows + own, nbytes + kept * self._row_bytes
            if self._n_ctx is not None and rows > self._n_ctx:
                message = f"{len(cut)} of {len(sources)} pictures have {rows} tokens already, the context {self._n_ctx}"
                message += "; show fewer or raise n_ctx"
                raise naming(ContextOverflowError(message, needed=rows, available=self._n_ctx), "n_ctx")
            if nbytes > _MOST_BYTES:
                raise ImageError(
                    f"the pictures of a prompt may take {_MOST_BYTES >> 20} MiB, {len(cut)} of {len(sources)} take more"
                    "; show fewer"
                )
        return cut

    def rows(self, tile: Tile | Mosaic, progress: Progress | None = None) -> Any:
        """What one tile, or several as one, is in a text: ``Inserted``, or ``LookedAt`` where the projector is such.
        ``progress`` gets the ops that are done, of all tiles, and those of one tile."""
        key = _digest(tile)
        with self._lock:
            if self._closed:
                raise ClosedError("the model is closed; load it again")
            found = self._kept.get(key) or self._insert(key, *self._encoded(tile, progress))
            self._kept.move_to_end(key)
            return found

    def _encoded(
        self, tile: Tile | Mosaic, progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], tuple[int, int] | None]:
        if isinstance(tile, Mosaic):
            each = [self._encoded(x, progress and _behind(progress, i))[0] for i, x in enumerate(tile.tiles)]
            return self.projector.joined(each, tile.order), None
        with np.errstate(all="ignore"):
            read = self.projector.patches(tile)
        step = self.projector.step(read)
        self._engine = self._engine or self._load()
        rows = self._engine.forward(step, self._cache, progress=progress)
        rows = rows if read.back is None else rows[read.back]
        if not np.isfinite(rows).all():
            raise not_numbers("states of a picture")
        return rows, read.grid

    def _insert(self, key: bytes, rows: NDArray[np.float32], grid: tuple[int, int] | None) -> Inserted | LookedAt:
        first = self._ids.pop(key, self._next_id)
        found = self._kept[key] = self._inserted(first, rows, grid)
        if first == self._next_id:
            self._next_id += len(found.ids)
        self._ids[key] = first
        if len(self._ids) > _KNOWN:
            self._ids.popitem(last=False)
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._store_bytes:
            self._kept.popitem(last=False)
        return found


def _read(piece: Piece) -> str | Tile | Mosaic:
    return piece.pixels if isinstance(piece, Picture) else piece


def _tiles(piece: str | Tile | Mosaic) -> int:
    return 0 if isinstance(piece, str) else len(piece.tiles) if isinstance(piece, Mosaic) else 1


def _digest(tile: Tile | Mosaic) -> bytes:
    """The same for the same pixels in the same places."""
    found = hashlib.blake2b(digest_size=32)
    arrays: tuple[NDArray[Any], ...] = (*tile.tiles, tile.order) if isinstance(tile, Mosaic) else (tile,)
    for array in arrays:
        found.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return found.digest()


def _behind(progress: Progress, tiles: int) -> Progress:
    """The progress of a tile behind so many others."""
    return lambda done, total: progress(tiles * total + done, total)
