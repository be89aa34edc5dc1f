"""Llama 3.2 Vision: up to four tiles of a picture, which see each other; the language model looks at their states.

The encoder ends with keys and values of these states for each layer of the language model with cross-attention, so that
they are made once for a picture. Facts: transformers' code of the model, and Ollama's files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.errors import ModelError
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.inserted import LookedAt
from llamaq.plan.pictures import picture_of
from llamaq.plan.step import Step
from llamaq.vision.canvas import arrangements, check_tiles, on_canvas
from llamaq.vision.hparams import VisionHParams, check_sides
from llamaq.vision.patches import Patches, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector, Tile

__all__ = ["Mllama"]

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_TOGETHER = 8  # rows of a tile are filled up to a multiple of it, and other rows see these fillers
_MOST_TILES = 16
_TOKEN = "<|image|>"

F32 = NDArray[np.float32]


class Mllama(Projector):
    """``read`` gives the numbers of a tensor of the projector's file, or of one row of it."""

    placeholder: ClassVar[str] = _TOKEN
    looked_at: ClassVar[bool] = True

    def __init__(self, keys: Keys, text: Keys, read: Callable[..., F32]) -> None:
        self._read, self._shapes = read, keys.shapes
        self.text: Decoder = read_decoder(text, layout="norm")
        self.cross = text.integers("attention.cross_attention_layers", low=0, high=self.text.layers - 1)
        self.tiles = keys.integer("vision.max_num_tiles", 4, high=_MOST_TILES)
        self.global_layers = keys.integer("vision.global.block_count", low=0)
        self.hp = self._hparams(keys)
        check_tiles(keys, self.tiles, self.hp.image_size)
        self.merge = 1
        self.taken = keys.integers("vision.intermediate_layers_indices", low=0, high=self.hp.layers - 1)
        """Layers whose inputs are part of a state."""
        self.taken_layers = len(self.taken)
        places = keys.shapes.get("v.position_embd.weight", (0,))[0]
        if places != self.hp.grid**2 + 1:
            raise ModelError(f"tensor 'v.position_embd.weight': expected {self.hp.grid**2 + 1} rows, got {places}")

    def _hparams(self, keys: Keys) -> VisionHParams:
        image, patch = check_sides(keys)
        width = keys.integer("vision.embedding_length")
        heads = keys.integer("vision.attention.head_count", high=width)
        if width % heads:
            raise keys.error("vision.attention.head_count", heads, f"a divisor of embedding_length ({width})")
        columns = len(self.cross) * 2 * self.text.kv_heads[self.cross[0]] * self.text.head_dim
        return VisionHParams(
            "mllama", image, patch, width, keys.integer("vision.block_count"), heads,
            keys.positive("vision.attention.layer_norm_epsilon", 1e-5), "gelu_erf", _MEAN, _STD, columns,
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """Rows in the prompt."""
        return 1

    @property
    def tile_rows(self) -> int:
        """Rows of a tile: one for all of it, one for each patch."""
        return self.hp.grid**2 + 1

    @property
    def padded(self) -> int:
        return -(-self.tile_rows // _TOGETHER) * _TOGETHER

    @property
    def most_patches(self) -> int:
        return self.tiles * self.padded

    def rows_of(self, tile: Tile) -> int:
        return self.rows

    def kept_rows_of(self, tile: Tile) -> int:
        rows, columns = (side // self.hp.image_size for side in tile.shape[:2])
        return int(rows * columns) * self.tile_rows

    @property
    def most_rows(self) -> int:
        return self.tiles * self.tile_rows

    def merged(self, keys: Keys) -> int:
        return 1

    def trace(self, g: Graph) -> Value:
        hp, wide = self.hp, self.hp.patch_values + 2 * self.hp.width
        places = g.given(hp.width, first=hp.patch_values, width=wide)
        x = g.linear(g.given(hp.patch_values, width=wide), "v.patch_embd", add=places)
        x = g.choose(g.norm(x, Norm("v.pre_ln", hp.eps, "layer")), places)  # fillers begin as zeros
        taken: dict[int, Value] = {}
        for i in g.layers(hp.layers):
            if i in self.taken:
                taken[i] = x
            x = self._block(g, x, f"v.blk.{i}.", (1.0, 1.0))
        tiles = g.given(hp.width, first=hp.patch_values + hp.width, width=wide)
        x = g.norm(x, Norm("v.post_ln", hp.eps, "layer"), add=tiles)
        for i in range(self.global_layers):
            b = f"v.global.blk.{i}."
            x = self._block(g, x, b, (self._gate(b + "attn_gate"), self._gate(b + "ffn_gate")))
        y = g.concat(*(g.select_rows(value) for value in (x, *(taken[i] for i in self.taken))))
        y = g.linear(y, "mm.0")
        found: list[Value] = []
        for i in self.cross:
            b = f"blk.{i}.cross_attn_"
            k, v = g.linear(y, b + "k_proj", b + "v_proj")
            norm = Norm(b + "k_norm", self.text.eps)
            found += [g.norm(k, norm, heads=self.text.kv_heads[i]), v]
        return g.concat(*found)

    def _block(self, g: Graph, x: Value, b: str, gates: tuple[float, float]) -> Value:
        hp = self.hp
        # Files of 2024 have other names, and those of the two matrices of a block exchanged.
        old = g.has(b + "ln1")
        first, out, second = ("ln1", "attn_out", "ln2") if old else ("attn_norm", "attn_output", "ffn_norm")
        up, down = ("ffn_down", "ffn_up") if old else ("ffn_up", "ffn_down")
        q, k, v = g.linear(x, b + "attn_q", b + "attn_k", b + "attn_v", norm=Norm(b + first, hp.eps, "layer"))
        a = g.bidirectional_attention(
            q, k, v, heads=hp.heads, kv_heads=hp.heads, head_dim=hp.head_dim, scale=hp.scale, rope=None
        )
        x = g.linear(a, b + out, add=x, scale=gates[0])
        h = g.act_linear(x, b + up, act=hp.activation, norm=Norm(b + second, hp.eps, "layer"))
        return g.linear(h, b + down, add=x, scale=gates[1])

    def _gate(self, name: str) -> float:
        found = self._read(name if name in self._shapes else f"{name}.weight")
        if found.size != 1 or not np.isfinite(found).all():
            raise ModelError(f"tensor {name!r}: expected one finite number, got shape {found.shape}")
        return float(found.reshape(-1)[0])

    def pieces(self, picture: Picture) -> list[str | Picture]:
        """The picture on a canvas of whole tiles, black where it does not reach."""
        return [on_canvas(picture, self.tiles, self.hp.image_size)]

    def patches(self, tile: Tile) -> Patches:
        """What the plan reads of a canvas; ``grid`` are its rows and columns of tiles."""
        rows, columns = (side // self.hp.image_size for side in tile.shape[:2])
        order, _ = self._order(rows * columns)
        given = self._given(tile, rows, columns).reshape(self.most_patches, -1)
        return Patches(given[order], grid=(rows, columns))

    def _order(self, used: int) -> tuple[NDArray[np.int64], int]:
        """Rows of so many tiles that tell of the picture come first, fillers and other tiles behind; how many tell."""
        tells = np.zeros((self.tiles, self.padded), bool)
        tells[:used, : self.tile_rows] = True
        return np.argsort(~tells.reshape(-1), kind="stable"), int(tells.sum())

    def step(self, read: Patches) -> Step:
        """Rows that tell of the picture see all, the others these alone."""
        assert read.grid is not None
        order, count = self._order(read.grid[0] * read.grid[1])
        seen = np.zeros((self.most_patches, 2), np.int32)
        seen[:, 1] = np.where(np.arange(self.most_patches) < count, self.most_patches, count)
        within = np.arange(self.padded) < self.tile_rows
        step = Step.of(
            -1 - np.arange(self.most_patches), given=read.rows, wanted="none", seen=seen,
            marked=np.tile(within, self.tiles)[order],
        )  # fmt: skip
        step.wanted[:count] = True
        return step

    def _given(self, canvas: Tile, rows: int, columns: int) -> F32:
        """Pixels of patches, what is added to them, and what is added after the last layer that is not global: float32
        (tiles, padded, columns of the three)."""
        hp, n = self.hp, self.tile_rows
        found = np.zeros((self.tiles, self.padded, hp.patch_values + 2 * hp.width), np.float32)
        pixels, added, later = np.split(found, [hp.patch_values, hp.patch_values + hp.width], axis=2)
        for i in range(rows * columns):
            y, x = (at * hp.image_size for at in divmod(i, columns))
            pixels[i, 1:n] = pixels_of(canvas[y : y + hp.image_size, x : x + hp.image_size], hp)
        id = arrangements(self.tiles).index((rows, columns)) + 1
        added[:, :n] = self._read("v.position_embd.weight") * self._number("v.position_embd.gate")
        added[:, :n] += self._tiles("v.tile_position_embd", id, n)
        added[:, 0] += self._read("v.class_embd" if "v.class_embd" in self._shapes else "v.class_embd.weight").reshape(
            -1
        )
        added[:, 1:n] += self._tiles("v.pre_tile_position_embd", id, 1)
        later[:] = self._tiles("v.post_tile_position_embd", id, 1)
        return found

    def _number(self, name: str) -> np.float32:
        return np.float32(self._gate(name))

    def _tiles(self, name: str, id: int, rows: int) -> F32:
        """What the arrangement adds to so many rows of each tile."""
        found = self._read(f"{name}.weight", id).reshape(self.tiles, rows, self.hp.width)
        return found * self._number(f"{name}.gate")

    def inserted(self, first: int, rows: F32, grid: tuple[int, int] | None, *, token: int, precise: bool) -> LookedAt:
        picture = picture_of(
            rows, layers=len(self.cross), kv_heads=self.text.kv_heads[self.cross[0]], head_dim=self.text.head_dim,
            format="F32" if precise else "F16",
        )  # fmt: skip
        return LookedAt(first, token, picture)
