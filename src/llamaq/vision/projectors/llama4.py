"""Llama 4: up to sixteen tiles of a picture, with separators between them, and once the picture as a whole.

Facts: transformers' code of the model, and the files of llama.cpp's converter.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.step import Step
from llamaq.vision.canvas import on_canvas
from llamaq.vision.patches import F32, Patches, Tile, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector, TableOf
from llamaq.vision.vit import PATCHES, POSITIONS, block, square_rope

__all__ = ["Llama4"]

_MOST_TILES = 16
_CLASS = "v.class_embd"


class Llama4(Projector):
    placeholder: ClassVar[str] = "<|image|>"
    activation: ClassVar[Activation | None] = "gelu_erf"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        if self.hp.head_dim % 4:
            raise keys.error("vision.attention.head_count", self.hp.heads, "heads whose length four divides")
        self._class = _CLASS if _CLASS in keys.shapes else f"{_CLASS}.weight"

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.projector.scale_factor", 2, high=self.hp.grid)

    @property
    def most_patches(self) -> int:
        return self.hp.grid**2 + 1  # a row for all of the tile stands behind its patches

    def keep(self, table: TableOf) -> None:
        """What is added to each row: that of its place, and the row of a class, which has no pixels."""
        places, of_class = table(f"{POSITIONS}.weight"), table(self._class).reshape(-1)
        if places.shape != (self.most_patches, self.hp.width) or of_class.shape != places.shape[1:]:
            raise ModelError(
                f"tensor '{POSITIONS}.weight': expected {self.most_patches} rows of {self.hp.width} columns, as "
                f"{self._class!r} has them, got {places.shape} and {of_class.shape}"
            )
        self._added: F32 = np.concatenate([places[self.order], places[-1:] + of_class])

    def trace(self, g: Graph) -> Value:
        hp, width = self.hp, self.hp.patch_values + self.hp.width
        places = g.given(hp.width, first=hp.patch_values, width=width)
        x = g.linear(g.given(hp.patch_values, width=width), PATCHES, add=places)
        x = g.norm(x, Norm("v.pre_ln", hp.eps, "layer"))
        rope = square_rope(hp.head_dim, axes=(2, 1), layout="norm")
        for i in g.layers(hp.layers):
            x = block(g, hp, i, x, rope=rope)
        x = g.merge_rows(g.norm(x, Norm("v.post_ln", hp.eps, "layer")), "join", self.merge**2)
        for name in ("mm.model.mlp.1", "mm.model.mlp.2"):
            x = g.act_linear(x, name, act=hp.activation)
        return g.linear(x, "mm.model.fc")

    def patches(self, tile: Tile) -> Patches:
        order, grid = self.order, self.hp.grid
        pixels = np.concatenate([pixels_of(tile, self.hp)[order], np.zeros((1, self.hp.patch_values), np.float32)])
        places = np.zeros((self.most_patches, 3), np.int32)  # the last one turns by nothing, the others count from 1 on
        places[:-1, 1], places[:-1, 2] = order // grid + 1, order % grid + 1
        return Patches(np.concatenate([pixels, self._added], -1), places)

    def step(self, read: Patches) -> Step:
        step = super().step(read)
        step.wanted[-1] = False
        return step

    def pieces(self, picture: Picture) -> list[str | Picture]:
        size = self.hp.image_size
        canvas = on_canvas(picture, _MOST_TILES, size)
        rows, columns = canvas.height // size, canvas.width // size
        if rows * columns == 1:
            return ["<|image_start|><|image|>", canvas, "<|image_end|>"]
        found: list[str | Picture] = []
        before = "<|image_start|>"
        for y in range(rows):
            for x in range(columns):
                found += [before, canvas.cut(x * size, y * size, size, size)]
                before = "<|tile_x_separator|>"
            before = "<|tile_y_separator|>"
        return [*found, f"{before}<|image|>", picture.resized(size, size, "bilinear"), "<|image_end|>"]
