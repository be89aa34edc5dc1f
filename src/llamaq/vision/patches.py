"""Pictures cut into patches, in the order in which plans read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq.vision.hparams import VisionHParams

__all__ = ["F32", "I64", "Mosaic", "Patches", "Tile", "block_order", "pixels_of"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Tile = NDArray[np.uint8]
"""Pixels that the encoder reads at once: uint8 (height, width, 3), whole patches along each side."""


@dataclass(frozen=True, eq=False)
class Patches:
    """What the plan reads of a tile: ``rows``, float32 (patches, columns), and their ``places``, int32 (patches, 3).
    ``back`` are the numbers of the result's rows in the order of the picture, where it is another one, and ``grid`` its
    rows and columns, where the language model is to know them."""

    rows: F32
    places: NDArray[np.int32] | None = None
    back: I64 | None = None
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Tiles whose rows stand in a text as those of one: ``order``, int64 (rows,), are their numbers, counted through
    all tiles."""

    tiles: tuple[Tile, ...]
    order: I64


def block_order(rows: int, columns: int, side: int) -> I64:
    """The numbers of the patches of a grid, counted row by row, block by block of ``side`` x ``side``."""
    numbers = np.arange(rows * columns).reshape(rows // side, side, columns // side, side)
    return numbers.transpose(0, 2, 1, 3).reshape(-1)


def pixels_of(tile: Tile, hp: VisionHParams) -> F32:
    """The patches of a tile, row by row: float32 (patches, 3 * patch_size**2), each channel by channel."""
    size = hp.patch_size
    rows, columns = tile.shape[0] // size, tile.shape[1] // size
    x: F32 = tile[: rows * size, : columns * size].astype(np.float32) * np.float32(1 / 255)
    mean, std = (np.array(values, np.float32) for values in (hp.mean, hp.std))
    x = (x - mean) / std
    x = x.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(x.reshape(rows * columns, -1))
