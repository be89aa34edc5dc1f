"""Qwen 2.5-VL: a picture of any shape; most layers look within windows of it. Facts: https://arxiv.org/abs/2502.13923."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.vision.dynamic import Dynamic
from llamaq.vision.patches import F32, I64, block_order
from llamaq.vision.vit import PATCHES, block, square_rope

__all__ = ["Qwen25VL"]


class Qwen25VL(Dynamic):
    least_pixels: ClassVar[int] = 56 * 56
    most_pixels: ClassVar[int] = 28 * 28 * 16384

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.full_every = keys.integer("vision.n_wa_pattern", 0, low=0)
        """Of so many layers the last sees the whole picture; 0: each does."""
        size = keys.integer("vision.window_size", 112, low=self.block)
        self.window = size // self.block
        """Blocks along each side of a window."""

    def trace(self, g: Graph) -> Value:
        hp, rope = self.hp, square_rope(self.hp.head_dim)
        x = g.linear(g.given(hp.patch_values), PATCHES)
        for i in g.layers(hp.layers):
            windowed = self.full_every > 0 and (i + 1) % self.full_every != 0
            x = block(g, hp, i, x, norm="rms", rope=rope, by_time=windowed)
        x = g.merge_rows(g.norm(x, Norm("v.post_ln", hp.eps)), "join", self.merge**2)
        return g.linear(g.act_linear(x, "mm.0", act="gelu_erf"), "mm.2")

    def arranged(self, rows: int, columns: int) -> tuple[I64, I64]:
        order = block_order(rows, columns, self.merge)
        across = -(-columns // (self.merge * self.window))
        side = self.merge * self.window
        windows = order // columns // side * across + order % columns // side
        by_window = np.argsort(windows, kind="stable")
        return order[by_window], windows[by_window]

    def beside(self, rows: int, columns: int, order: I64) -> list[F32]:
        return []
