"""Gemma 4: a picture in its proportions, patches averaged by blocks; small models bound what matrices take and give.

Facts: transformers' code of the model, and the files of llama.cpp's converter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import floor, inf, isqrt, sqrt
from typing import Any, ClassVar

import numpy as np

from llamaq.errors import ModelError, naming
from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.rope import Rope
from llamaq.vision.patches import F32, I64, Patches, Tile, block_order, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector, TableOf
from llamaq.vision.vit import PATCHES, POSITIONS, square_rope

__all__ = ["Gemma4V"]

_ROWS, _MOST_ROWS = 280, 1120  # rows of a picture: unless files or users say otherwise, and at most
_TURNED = ("attn_q", "attn_k")
_BOUNDED = (*_TURNED, "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down")
_LAST = "mm.input_projection"
_FURTHEST = float(np.finfo(np.float32).max)

Bounds = tuple[float, float]


class Gemma4V(Projector):
    placeholder: ClassVar[str] = "<|image|>"
    activation: ClassVar[Activation | None] = "gelu"
    any_shape: ClassVar[bool] = True

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        hp = self.hp
        if hp.head_dim % 4:
            raise keys.error("vision.attention.head_count", hp.heads, "heads whose length four divides")
        # The model itself spreads what files call normal over -1 … 1.
        mean = tuple(m + s / 2 for m, s in zip(hp.mean, hp.std, strict=True))
        self.hp = replace(hp, mean=mean, std=tuple(s / 2 for s in hp.std))
        self.block = hp.patch_size * self.merge
        self._shapes = keys.shapes
        self._places = self._known_places()
        self._most = self._bounded(keys.integer("vision.image_max_pixels", _ROWS * self.block**2) // self.block**2)

    def _known_places(self) -> int:
        shape = self._shapes.get(f"{POSITIONS}.weight")
        if shape is None or len(shape) != 3 or shape[0] != 2 or shape[2] != self.hp.width or shape[1] < self.merge:
            raise ModelError(
                f"tensor '{POSITIONS}.weight': expected two tables of {self.hp.width} columns, for columns and rows of "
                f"patches, got {shape}"
            )
        return shape[1]

    def _bounded(self, rows: int) -> int:
        """So many rows, or as many as a picture of one column may have at most."""
        return max(1, min(rows, _MOST_ROWS, self._places // self.merge))

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.projector.scale_factor", 3, high=16)

    def choose_edge(self, edge: int) -> None:
        most = isqrt(_MOST_ROWS) * self.block
        if not self.block <= edge <= most:
            message = f"image_edge must be {self.block} (a row's patches) to {most} pixels, got {edge}"
            raise naming(ValueError(message), "image_edge")
        self._most = self._bounded(edge**2 // self.block**2)

    def meet(self, model: Mapping[str, Any]) -> None:
        # In the small models rows of a picture see only those before them.
        self.together = not model.get("gemma4.embedding_length_per_layer_input", 0)

    @property
    def rows(self) -> int:
        return self._most

    @property
    def most_patches(self) -> int:
        return self._most * self.merge**2

    @property
    def summary(self) -> str:
        size = self.block
        return f"a row of {self.columns} floats for each {size} x {size} pixels of a picture, {self.rows} at most"

    def keep(self, table: TableOf) -> None:
        self._table = table
        layers = min(self.hp.layers, len(self._shapes))  # a file may say more than it has tensors for
        names = [_LAST, *(f"v.blk.{i}.{part}" for i in range(layers) for part in _BOUNDED)]
        self._bounds = {(name, of): self._bounds_of(table, name, of) for name in names for of in ("input", "output")}

    def _bounds_of(self, table: TableOf, name: str, of: str) -> Bounds | None:
        """Of what a matrix reads ("input") or makes ("output"), where the file has any."""
        found = []
        for end, usual in (("min", -inf), ("max", inf)):
            tensor = f"{name}.{of}_{end}"
            number = table(tensor).reshape(-1).tolist() if tensor in self._shapes else [usual]
            found += number
            if len(number) != 1 or number[0] != number[0]:
                raise ModelError(f"tensor {tensor!r}: expected one number, got {number[:2]}")
        low, high = found
        if low > high:
            raise ModelError(f"tensor '{name}.{of}_min': expected no more than {of}_max, {high}, got {low}")
        return None if (low, high) == (-inf, inf) else (max(low, -_FURTHEST), min(high, _FURTHEST))

    def trace(self, g: Graph) -> Value:
        hp, width = self.hp, self.hp.patch_values + self.hp.width
        places = g.given(hp.width, first=hp.patch_values, width=width)
        x = g.linear(g.given(hp.patch_values, width=width), PATCHES, add=places)
        rope = square_rope(hp.head_dim, 100.0, axes=(2, 1))
        for i in g.layers(hp.layers):
            x = self._block(g, i, x, rope)
        x = g.merge_rows(x, "mean", self.merge**2)
        eps = hp.eps / hp.width  # the mean is times the root of the width, which the norm takes back
        if "v.std_bias" in g.shapes:
            x = g.standardize(x, scale=sqrt(hp.width), less="v.std_bias", factor="v.std_scale")
            eps = hp.eps
        return self._linear(g, x, _LAST, norm=Norm(None, eps))[0]

    def _block(self, g: Graph, layer: int, x: Value, rope: Rope) -> Value:
        hp, b = self.hp, f"v.blk.{layer}."
        q, k, v = self._linear(g, x, b + "attn_q", b + "attn_k", b + "attn_v", norm=Norm(b + "ln1", hp.eps))
        q, k = (g.norm(each, Norm(b + name, hp.eps), heads=hp.heads)
                for each, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))  # fmt: skip
        v = g.norm(v, Norm(None, hp.eps), heads=hp.heads)
        a = g.bidirectional_attention(
            q, k, v, heads=hp.heads, kv_heads=hp.heads, head_dim=hp.head_dim, scale=1.0, rope=rope
        )
        x = g.norm(self._linear(g, a, b + "attn_out")[0], Norm(b + "attn_post_norm", hp.eps), add=x)
        gate, up = self._linear(g, x, b + "ffn_gate", b + "ffn_up", norm=Norm(b + "ln2", hp.eps))
        h = self._linear(g, g.gate(up, gate, act=hp.activation), b + "ffn_down")[0]
        return g.norm(h, Norm(b + "ffn_post_norm", hp.eps), add=x)

    def _linear(self, g: Graph, x: Value, *names: str, norm: Norm | None = None) -> list[Value]:
        """Products of matrices that read the same rows, each within its bounds."""
        read = [self._bounds[name, "input"] for name in names]
        if len({*read}) > 1 or read[0] is not None:
            n = x if norm is None else g.norm(x, norm)
            known = {bounds: n if bounds is None else g.clamp(n, *bounds) for bounds in dict.fromkeys(read)}
            made = [g.linear(known[bounds], name) for bounds, name in zip(read, names, strict=True)]
        else:
            several = g.linear(x, *names, norm=norm)
            made = [several] if isinstance(several, Value) else list(several)
        bounds_of = [self._bounds[name, "output"] for name in names]
        return [y if bounds is None else g.clamp(y, *bounds) for y, bounds in zip(made, bounds_of, strict=True)]

    def row_order(self, name: str, shape: tuple[int, ...]) -> I64 | None:
        """Each half of a head turns by itself, its halves together; here the quarters stand so that the whole does."""
        hp, part = self.hp, name.removesuffix(".weight").rpartition(".")[2]
        quarters = np.arange(hp.head_dim).reshape(2, 2, -1).swapaxes(0, 1).reshape(-1)
        if part.removesuffix("_norm") not in _TURNED or not name.startswith("v.") or shape[0] % hp.head_dim:
            return None
        return (np.arange(0, shape[0], hp.head_dim)[:, None] + quarters).reshape(-1)

    def pieces(self, picture: Picture) -> list[str | Picture]:
        height, width = self._fitted(picture.height, picture.width)
        return ["<|image>", picture.resized(width, height, "bicubic"), "<image|>"]

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in whole blocks, as large as the most rows allow, near the picture's proportions."""
        grown = sqrt(self._most * self.block**2 / (height * width))
        h, w = (floor(grown * side / self.block) for side in (height, width))
        if not h:
            h, w = 1, min(width // height, self._most)
        elif not w:
            h, w = min(height // width, self._most), 1
        return h * self.block, w * self.block

    def patches(self, tile: Tile) -> Patches:
        rows, columns = (side // self.hp.patch_size for side in tile.shape[:2])
        order = block_order(rows, columns, self.merge)
        y, x = order // columns, order % columns
        by_column, by_row = self._positions(max(rows, columns))
        given = np.concatenate([pixels_of(tile, self.hp)[order], by_column[x] + by_row[y]], -1)
        return Patches(given, np.stack([np.zeros_like(x), y, x], -1).astype(np.int32))

    def _positions(self, side: int) -> F32:
        """What is added to patches of the first columns, and of the first rows."""
        return self._table(f"{POSITIONS}.weight")[:, :side]
