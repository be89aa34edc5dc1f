"""Qwen 3-VL and Qwen 3.5: a picture of any shape; states of some layers become further parts of the rows.

Facts: https://arxiv.org/abs/2511.21631; transformers' and llama.cpp's files.
"""

from __future__ import annotations

from math import isqrt
from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.vision.dynamic import Dynamic
from llamaq.vision.patches import F32, I64
from llamaq.vision.projector import TableOf
from llamaq.vision.vit import PATCHES, POSITIONS, block, square_rope

__all__ = ["Qwen3VL"]


class Qwen3VL(Dynamic):
    least_pixels: ClassVar[int] = 256 * 256
    most_pixels: ClassVar[int] = 4096 * 4096

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        flags = keys.flags("vision.is_deepstack_layers", self.hp.layers)
        self.deep = tuple(i for i, deep in enumerate(flags) if deep) if isinstance(flags, tuple) else ()
        """Layers whose states become parts of the rows."""

    @property
    def columns(self) -> int:
        return self.hp.columns * (1 + len(self.deep))

    def trace(self, g: Graph) -> Value:
        hp, rope, merged = self.hp, square_rope(self.hp.head_dim), self.merge**2
        width = hp.patch_values + hp.width
        x = g.linear(g.given(hp.patch_values, width=width), PATCHES)
        x = g.add_given(x, begin=hp.patch_values, width=width)
        states = {}
        for i in g.layers(hp.layers):
            x = states[i] = block(g, hp, i, x, rope=rope)
        joined = g.merge_rows(g.norm(x, Norm("v.post_ln", hp.eps, "layer")), "join", merged)
        rows = g.linear(g.act_linear(joined, "mm.0", act="gelu_erf"), "mm.2")
        for i in self.deep:
            b = f"v.deepstack.{i}."
            h = g.act_linear(g.merge_rows(states[i], "join", merged), b + "fc1", act="gelu_erf",
                             norm=Norm(b + "norm", hp.eps, "layer"))  # fmt: skip
            rows = g.concat(rows, g.linear(h, b + "fc2"))
        return rows

    def keep(self, table: TableOf) -> None:
        positions = table(f"{POSITIONS}.weight")
        side = isqrt(len(positions))
        if positions.ndim != 2 or positions.shape[1] != self.hp.width or side < 1 or side**2 != len(positions):
            raise ModelError(
                f"tensor '{POSITIONS}.weight': expected {self.hp.width} columns, a row for each place of a square, got "
                f"{positions.shape}"
            )
        self._positions = positions.reshape(side, side, -1)

    def beside(self, rows: int, columns: int, order: I64) -> list[F32]:
        """The learned positions, stretched over the picture: between the four nearest each counts by its distance."""
        (top, bottom, down), (left, right, across) = (_between(n, len(self._positions)) for n in (rows, columns))
        y, x = order // columns, order % columns
        found = np.zeros((len(order), self.hp.width), np.float32)
        for ys, wy in ((top, np.float32(1) - down), (bottom, down)):
            for xs, wx in ((left, np.float32(1) - across), (right, across)):
                found += self._positions[ys[y], xs[x]] * (wy[y] * wx[x])[:, None]
        return [found]


def _between(count: int, side: int) -> tuple[I64, I64, F32]:
    """For ``count`` points, from the first to the last of ``side``: the two beside each, and the second one's share."""
    at = np.linspace(0, side - 1, count) if count > 1 else np.zeros(1)
    first = np.minimum(at.astype(np.int64), side - 1)
    return first, np.minimum(first + 1, side - 1), (at - first).astype(np.float32)
