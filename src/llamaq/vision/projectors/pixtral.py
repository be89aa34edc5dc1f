"""Pixtral and Ministral 3: a picture of any shape, whose rows of patches a token divides.

Facts: https://arxiv.org/abs/2410.07073; transformers' code of the models, and the files of llama.cpp's converter.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError, naming
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.inserted import Inserted
from llamaq.plan.rope import Rope, make_rope
from llamaq.vision.patches import F32, Patches, Tile, block_order, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector, TableOf
from llamaq.vision.vit import PATCHES, block

__all__ = ["Pixtral"]

_BREAK = "v.token_embd.img_break"


class Pixtral(Projector):
    placeholder: ClassVar[str] = "[IMG]"
    any_shape: ClassVar[bool] = True
    alternating: ClassVar[str] = "mm.patch_merger.weight"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        if self.hp.head_dim % 4:
            raise keys.error("vision.attention.head_count", self.hp.heads, "heads whose length four divides")
        self.block = self.hp.patch_size * self.merge
        self.edge = self.hp.image_size
        """Pixels of the longer side, at most."""
        self._break = _BREAK if _BREAK in keys.shapes else f"{_BREAK}.weight"

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.spatial_merge_size", 1, high=self.hp.grid)

    def choose_edge(self, edge: int) -> None:
        most = self.hp.image_size
        if not self.block <= edge <= most:
            message = f"image_edge must be {self.block} (a row's patches) to {most} pixels, got {edge}"
            raise naming(ValueError(message), "image_edge")
        self.edge = edge

    @property
    def most_patches(self) -> int:
        return (-(-self.edge // self.block) * self.merge) ** 2

    def rows_of(self, tile: Tile) -> int:
        lines = tile.shape[0] // self.block
        return super().rows_of(tile) + int(lines) - 1

    @property
    def most_rows(self) -> int:
        side = -(-self.edge // self.block)
        return side * (side + 1) - 1

    @property
    def summary(self) -> str:
        size = self.block
        return f"a row of {self.columns} floats for each {size} x {size} pixels of up to {self.edge} x {self.edge}"

    def keep(self, table: TableOf) -> None:
        self._divides = table(self._break).reshape(1, -1)
        if self._divides.shape[1] != self.hp.columns:
            raise ModelError(
                f"tensor {self._break!r}: expected {self.hp.columns} numbers as clip.vision.projection_dim, got "
                f"{self._divides.shape[1]}"
            )

    def trace(self, g: Graph) -> Value:
        hp = self.hp
        x = g.norm(g.linear(g.given(hp.patch_values), PATCHES), Norm("v.pre_ln", hp.eps))
        rope = _rope(hp.head_dim)
        for i in g.layers(hp.layers):
            x = block(g, hp, i, x, norm="rms", rope=rope)
        if g.has("mm.input_norm"):
            x = g.norm(x, Norm("mm.input_norm", hp.eps))
        x = g.merge_rows(x, "join", self.merge**2)
        if g.has("mm.patch_merger"):
            x = g.linear(x, "mm.patch_merger")
        return g.linear(g.act_linear(x, "mm.1", act="gelu_erf"), "mm.2")

    def pieces(self, picture: Picture) -> list[str | Picture]:
        height, width = self._fitted(picture.height, picture.width)
        return [picture.resized(width, height, "bicubic"), "[IMG_END]"]

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Sides in whole blocks: those of the picture, made smaller where the longer one exceeds the edge."""
        ratio = max(height / self.edge, width / self.edge)
        if ratio > 1:
            height, width = int(height / ratio), int(width / ratio)
        return tuple(max(1, -(-side // self.block)) * self.block for side in (height, width))  # type: ignore[return-value]

    def patches(self, tile: Tile) -> Patches:
        rows, columns = (side // self.hp.patch_size for side in tile.shape[:2])
        order = block_order(rows, columns, self.merge)
        places = np.stack([np.zeros_like(order), order // columns, order % columns], -1).astype(np.int32)
        return Patches(pixels_of(tile, self.hp)[order], places, grid=(rows // self.merge, columns // self.merge))

    def inserted(self, first: int, rows: F32, grid: tuple[int, int] | None, *, token: int, precise: bool) -> Inserted:
        """The rows of patches with the row of a token between one and the next."""
        assert grid is not None
        lines = rows.reshape(*grid, -1)
        between = np.broadcast_to(self._divides[None], (grid[0], 1, rows.shape[1]))
        return Inserted(first, np.concatenate([lines, between], 1).reshape(-1, rows.shape[1])[:-1])


def _rope(head_dim: int) -> Rope:
    """Pairs of even numbers turn by the row, behind them those of odd numbers by the column."""
    frequencies = make_rope(head_dim, 10000.0).frequencies
    quarter = head_dim // 4
    return Rope(frequencies[::2] + frequencies[1::2], layout="norm", axes=(1,) * quarter + (2,) * quarter)
