"""Llama 4: up to sixteen tiles of a picture, with separators between them, and once the picture as a whole.

Facts: transformers' code of the model, and the files of llama.cpp's converter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.vision.canvas import check_tiles, on_canvas
from llamaq.vision.classed import Classed
from llamaq.vision.patches import Patches, Tile
from llamaq.vision.preprocess import Picture
from llamaq.vision.vit import block, square_rope

__all__ = ["Llama4"]

_MOST_TILES = 16


class Llama4(Classed):
    placeholder: ClassVar[str] = "<|image|>"
    activation: ClassVar[Activation | None] = "gelu_erf"
    class_first: ClassVar[bool] = False

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        if self.hp.head_dim % 4:
            raise keys.error("vision.attention.head_count", self.hp.heads, "heads whose length four divides")
        check_tiles(keys, _MOST_TILES, self.hp.image_size)

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.projector.scale_factor", 2, high=self.hp.grid)

    @property
    def most_rows(self) -> int:
        return (_MOST_TILES + 1) * self.rows

    def trace(self, g: Graph) -> Value:
        hp, x = self.hp, self.begun(g)
        rope = square_rope(hp.head_dim, axes=(2, 1), layout="norm")
        for i in g.layers(hp.layers):
            x = block(g, hp, i, x, rope=rope)
        x = g.merge_rows(g.norm(x, Norm("v.post_ln", hp.eps, "layer")), "join", self.merge**2)
        for name in ("mm.model.mlp.1", "mm.model.mlp.2"):
            x = g.act_linear(x, name, act=hp.activation)
        return g.linear(x, "mm.model.fc")

    def patches(self, tile: Tile) -> Patches:
        order, grid = self.order, self.hp.grid
        places = np.zeros((self.most_patches, 3), np.int32)  # the last one turns by nothing, the others count from 1 on
        places[:-1, 1], places[:-1, 2] = order // grid + 1, order % grid + 1
        return replace(super().patches(tile), places=places)

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
