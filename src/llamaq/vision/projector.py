"""What every kind of projector says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import naming
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Value
from llamaq.vision.hparams import VisionHParams, read
from llamaq.vision.preprocess import Picture

__all__ = ["Projector", "Tile"]

Tile = NDArray[np.uint8]
"""Pixels that the encoder reads at once: uint8 (image_size, image_size, 3)."""


class Projector(ABC):
    """Made of a file's keys; ``merge`` x ``merge`` neighbouring patches become one row."""

    placeholder: ClassVar[str]
    """What chat templates of such models write for a picture."""
    together: ClassVar[bool] = False
    """Whether the rows of a tile see each other in the language model."""

    def __init__(self, keys: Keys) -> None:
        self.hp: VisionHParams = read(keys)
        self.merge = self.merged(keys)
        if self.hp.grid % self.merge:
            raise keys.error("vision.image_size", self.hp.image_size, f"patches by {self.merge} along each side")

    @property
    def rows(self) -> int:
        """Rows of one tile."""
        return (self.hp.grid // self.merge) ** 2

    @property
    def order(self) -> NDArray[np.int64]:
        """The number of each patch, row by row, in the order in which the plan reads them: block by block."""
        blocks, m = self.hp.grid // self.merge, self.merge
        return np.arange(self.hp.grid**2).reshape(blocks, m, blocks, m).transpose(0, 2, 1, 3).reshape(-1)

    def patches(self, tile: Tile) -> NDArray[np.float32]:
        """What the plan reads of a tile: float32 (patches, 3 * patch_size**2), each patch channel by channel."""
        hp, side = self.hp, self.hp.grid * self.hp.patch_size
        x: NDArray[np.float32] = tile[:side, :side].astype(np.float32) * np.float32(1 / 255)
        mean, std = (np.array(values, np.float32) for values in (hp.mean, hp.std))
        x = (x - mean) / std
        x = x.reshape(hp.grid, hp.patch_size, hp.grid, hp.patch_size, 3).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(x.reshape(hp.grid**2, -1)[self.order])

    def choose_edge(self, edge: int) -> None:
        """Pictures are scaled to ``edge`` pixels of their longer side, where the kind of projector leaves a choice.
        Raises ``ValueError``."""
        message = f"image_edge must be left out: projectors of the kind {self.hp.projector} have no choice, got {edge}"
        raise naming(ValueError(message), "image_edge")

    @abstractmethod
    def merged(self, keys: Keys) -> int:
        """Patches of a side that become one row."""

    @abstractmethod
    def trace(self, g: Graph) -> Value:
        """Rows (rows, columns) of the patches of one tile, of which each block of ``merge`` x ``merge`` stands together
        and the first of each block is wanted."""

    @abstractmethod
    def pieces(self, picture: Picture) -> list[str | Picture]:
        """What stands in the prompt in the place of a picture: text, special tokens in it, and tiles, which have
        ``image_size`` pixels along each side."""
