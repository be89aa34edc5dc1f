"""Encoders that read pictures of any shape: the sides become whole blocks of patches, within limits of pixels."""

from __future__ import annotations

from abc import abstractmethod
from math import ceil, floor, sqrt
from typing import ClassVar

import numpy as np

from llamaq.errors import ImageError, naming
from llamaq.models.keys import Keys
from llamaq.vision.patches import F32, I64, Patches, Tile, block_order, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector

__all__ = ["Dynamic", "fitted"]

_EDGE, _MOST_EDGE = 1024, 4096  # pixels: unless it is chosen, and at most
_LONGEST = 200  # the longer side has at most so many times the shorter one


class Dynamic(Projector):
    """Pictures keep their proportions, as nearly as whole blocks allow. ``least_pixels`` and ``most_pixels`` are what
    files leave open."""

    placeholder: ClassVar[str] = "<|vision_start|><|image_pad|><|vision_end|>"
    places: ClassVar[bool] = True
    any_shape: ClassVar[bool] = True
    least_pixels: ClassVar[int]
    most_pixels: ClassVar[int]

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self._keys = keys
        self.block = self.hp.patch_size * self.merge
        self._least = keys.integer("vision.image_min_pixels", self.least_pixels)
        self._most = keys.integer("vision.image_max_pixels", self.most_pixels)
        self._edge = _EDGE

    def choose_edge(self, edge: int) -> None:
        if not self.block <= edge <= _MOST_EDGE:
            message = f"image_edge must be {self.block} (a row's patches) to {_MOST_EDGE} pixels, got {edge}"
            raise naming(ValueError(message), "image_edge")
        self._edge = edge

    @property
    def limits(self) -> tuple[int, int]:
        """Pixels of a picture as it is read, at least and at most: of a square of the chosen edge, unless the file says
        less."""
        most = max(self.block**2, min(self._most, self._edge**2))
        return min(self._least, most), most

    @property
    def summary(self) -> str:
        size = self.block
        most = self.limits[1] // size**2
        return f"a row of {self.columns} floats for each {size} x {size} pixels of a picture, some {most} at most"

    @property
    def most_patches(self) -> int:
        least, most = self.limits
        # One block high or wide, or enlarged to the next blocks.
        longest = self.block * (sqrt(_LONGEST * most) + self.block)
        enlarged = least + self.block * (sqrt(_LONGEST * least) + sqrt(least) + self.block)
        return int(max(most, longest, enlarged)) // self.hp.patch_size**2

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.spatial_merge_size", 2, high=self.hp.grid)

    def pieces(self, picture: Picture) -> list[str | Picture]:
        height, width = fitted(picture.height, picture.width, self.block, *self.limits)
        return ["<|vision_start|>", picture.resized(width, height, "bicubic"), "<|vision_end|>"]

    def patches(self, tile: Tile) -> Patches:
        rows, columns = (side // self.hp.patch_size for side in tile.shape[:2])
        order, times = self.arranged(rows, columns)
        places = np.stack([times, order // columns, order % columns], -1).astype(np.int32)
        given = np.concatenate([pixels_of(tile, self.hp)[order], *self.beside(rows, columns, order)], -1)
        merged = self.merge**2
        # A block's first patch says where it lies in the picture.
        back = np.argsort((order // columns // self.merge * columns + order % columns // self.merge)[::merged])
        return Patches(given, places, back, (rows // self.merge, columns // self.merge))

    def arranged(self, rows: int, columns: int) -> tuple[I64, I64]:
        """The numbers of a picture's patches in the order in which they are read, and the part that each belongs to."""
        order = block_order(rows, columns, self.merge)
        return order, np.zeros_like(order)

    @abstractmethod
    def beside(self, rows: int, columns: int, order: I64) -> list[F32]:
        """Further columns of what is given, for patches in this order."""


def fitted(height: int, width: int, block: int, least: int, most: int) -> tuple[int, int]:
    """Height and width in whole blocks, of ``least`` to ``most`` pixels together, near those of a picture. Raises
    ``ImageError`` for one that is too long."""
    if max(height, width) > _LONGEST * min(height, width):
        raise ImageError(f"a side of a picture may be {_LONGEST} times the other at most, got {width} x {height}")
    h, w = (round(side / block) * block for side in (height, width))
    if h * w > most:
        shrink = sqrt(height * width / most)
        h, w = (max(block, floor(side / shrink / block) * block) for side in (height, width))
    elif h * w < least:
        grow = sqrt(least / (height * width))
        h, w = (ceil(side * grow / block) * block for side in (height, width))
    return h, w
