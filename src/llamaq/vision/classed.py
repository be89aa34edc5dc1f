"""Encoders that have a row for all of a tile beside those of its patches, as CLIP has one for the picture's class."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.step import Step
from llamaq.vision.patches import F32, Patches, Tile, pixels_of
from llamaq.vision.projector import Projector, TableOf
from llamaq.vision.vit import PATCHES, POSITIONS, placed

__all__ = ["Classed"]

_CLASS = "v.class_embd"


class Classed(Projector):
    """In the plan that row stands behind the patches; it has no pixels, and is no row of the result."""

    class_first: ClassVar[bool]
    """Whether the table of places begins with that of the row, or ends with it."""
    has_class: bool = True
    """Whether there is such a row at all."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self._class = _CLASS if _CLASS in keys.shapes else f"{_CLASS}.weight"

    @property
    def most_patches(self) -> int:
        return self.hp.grid**2 + self.has_class

    def keep(self, table: TableOf) -> None:
        """What is added to each row: that of its place, and the row of a class."""
        if not self.has_class:
            return
        places, of_class = table(f"{POSITIONS}.weight"), table(self._class).reshape(-1)
        if places.shape != (self.most_patches, self.hp.width) or of_class.shape != places.shape[1:]:
            raise ModelError(
                f"tensor '{POSITIONS}.weight': expected {self.most_patches} rows of {self.hp.width} columns, as "
                f"{self._class!r} has them, got {places.shape} and {of_class.shape}"
            )
        last = np.roll(places, -1, axis=0) if self.class_first else places
        self._added: F32 = np.concatenate([last[self.order], last[-1:] + of_class])

    def begun(self, g: Graph) -> Value:
        """States before the first layer."""
        if not self.has_class:
            return placed(g, self.hp)
        hp, width = self.hp, self.hp.patch_values + self.hp.width
        places = g.given(hp.width, first=hp.patch_values, width=width)
        x = g.linear(g.given(hp.patch_values, width=width), PATCHES, add=places)
        return g.norm(x, Norm("v.pre_ln", hp.eps, "layer"))

    def patches(self, tile: Tile) -> Patches:
        if not self.has_class:
            return super().patches(tile)
        pixels = np.zeros((self.most_patches, self.hp.patch_values), np.float32)
        pixels[:-1] = pixels_of(tile, self.hp)[self.order]
        return Patches(np.concatenate([pixels, self._added], -1))

    def step(self, read: Patches) -> Step:
        step = super().step(read)
        if self.has_class:
            step.wanted[-1] = False
        return step

    @abstractmethod
    def trace(self, g: Graph) -> Value: ...
