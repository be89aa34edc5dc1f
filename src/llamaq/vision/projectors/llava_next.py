"""LLaVA 1.6, and Granite Vision: the picture as a whole, and once more in tiles of one of the canvases that files list.

Facts: https://llava-vl.github.io/blog/2024-01-30-llava-next/, transformers' code of the model, and the files of
llama.cpp's converter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llamaq.errors import ModelError, naming
from llamaq.models.keys import Keys
from llamaq.vision.anyres import Size, best_canvas, kept, lines_of, on_middle
from llamaq.vision.patches import F32, I64, Mosaic
from llamaq.vision.preprocess import MOST_PIXELS, Picture
from llamaq.vision.projector import Piece, TableOf
from llamaq.vision.projectors.mlp import Mlp

__all__ = ["PINPOINTS", "LlavaNext"]

PINPOINTS = "vision.image_grid_pinpoints"
_LINE_END = "model.image_newline"
_MERGING = ("spatial_unpad", "spatial", "flat")
_MOST_SIDE, _MOST_CANVASES, _MOST_TILES = 1 << 13, 256, 64


class LlavaNext(Mlp):
    """``merging`` says how tiles' rows stand: "flat", tile by tile; "spatial", line by line of the canvas;
    "spatial_unpad", without what lies beside the picture, and with a row of the file's behind each line."""

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        self.canvases = _canvases(keys, self.hp.image_size)
        """Heights and widths in pixels."""
        self._has_line_end = _LINE_END in keys.shapes
        self.merging = keys.string("vision.mm_patch_merge_type", "spatial_unpad" if self._has_line_end else "flat")
        if self.merging not in _MERGING:
            raise keys.error("vision.mm_patch_merge_type", self.merging, f"one of {', '.join(_MERGING)}")

    def choose_edge(self, edge: int) -> None:
        size, most = self.hp.image_size, max(max(canvas) for canvas in self.canvases)
        if not size <= edge <= most:
            message = f"image_edge must be {size} (a tile) to {most} pixels, got {edge}"
            raise naming(ValueError(message), "image_edge")
        self.canvases = tuple(canvas for canvas in self.canvases if max(canvas) <= edge)

    @property
    def summary(self) -> str:
        size = self.hp.image_size
        tiles = max((height * width // size**2 for height, width in self.canvases), default=0)
        beside = f", and in up to {tiles} tiles" if tiles else ""
        whole = f"a picture as a whole, {size} x {size} pixels{beside}"
        return f"up to {self.most_rows} rows of {self.columns} floats: {whole}"

    @property
    def most_rows(self) -> int:
        size = self.hp.image_size
        orders = [self._order((height // size, width // size), (height, width)) for height, width in self.canvases]
        return max(map(len, [*orders, self._alone()]))

    def keep(self, table: TableOf) -> None:
        super().keep(table)
        self._line_end = table(_LINE_END).reshape(1, -1) if self._has_line_end else np.zeros((0, self.columns), "f4")
        if self._line_end.shape[1] != self.columns:
            raise ModelError(
                f"tensor {_LINE_END!r}: expected {self.columns} numbers, as rows have, got {self._line_end.shape[1]}"
            )

    def joined(self, rows: Sequence[F32], order: I64) -> F32:
        """Behind the rows of all tiles stands that of a line's end, which has the number -1."""
        return np.concatenate([*rows, self._line_end])[order]

    def pieces(self, picture: Picture) -> list[Piece]:
        size, sides = self.hp.image_size, (picture.height, picture.width)
        whole = picture.resized(size, size, "bicubic").pixels
        if not self.canvases:
            return [Mosaic((whole,), self._alone())]
        height, width = best_canvas(sides, self.canvases)
        canvas = on_middle(picture, (height, width))
        places = [(x, y) for y in range(0, height, size) for x in range(0, width, size)]
        tiles = (canvas.cut(x, y, size, size).pixels for x, y in places)
        return [Mosaic((whole, *tiles), self._order((height // size, width // size), sides))]

    def _alone(self) -> I64:
        """The numbers of rows of a picture without tiles."""
        return np.pad(np.arange(self.rows), (0, self._ends_lines), constant_values=-1)

    def _order(self, tiles: Size, picture: Size) -> I64:
        """The numbers of rows of a picture and of so many tiles of it, as they stand."""
        if self.merging == "flat":
            return np.arange(self.rows * (1 + tiles[0] * tiles[1]))
        lines = self.rows + lines_of(tiles, self.hp.grid)
        if self.merging == "spatial_unpad":
            lines = kept(lines, picture)
        lines = np.pad(lines, ((0, 0), (0, self._ends_lines)), constant_values=-1)
        return np.concatenate([np.arange(self.rows), lines.reshape(-1)])

    @property
    def _ends_lines(self) -> bool:
        return self._has_line_end and self.merging == "spatial_unpad"


def _canvases(keys: Keys, size: int) -> tuple[Size, ...]:
    """Heights and widths, in whole tiles."""
    sides = keys.integers(PINPOINTS, low=1, high=_MOST_SIDE)
    found = tuple(zip(sides[::2], sides[1::2], strict=False))
    if len(sides) % 2 or len(found) > _MOST_CANVASES or any(side % size for side in sides):
        raise keys.error(PINPOINTS, [*sides[:8]], f"heights and widths of whole tiles of {size} pixels")
    if any(h * w > min(_MOST_TILES * size**2, MOST_PIXELS) for h, w in found):
        raise keys.error(PINPOINTS, [*sides[:8]], f"up to {_MOST_TILES} tiles and {MOST_PIXELS} pixels")
    return found
