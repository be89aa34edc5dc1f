"""Pictures on one of several canvases of tiles, and which of the tiles' rows stand in a text ("anyres" of LLaVA 1.6).

Facts: https://llava-vl.github.io/blog/2024-01-30-llava-next/, and transformers' code of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from llamaq.vision.patches import I64
from llamaq.vision.preprocess import Picture

__all__ = ["Size", "best_canvas", "kept", "lines_of", "on_middle"]

Size = tuple[int, int]
"""Height and width."""


def best_canvas(picture: Size, canvases: Sequence[Size]) -> Size:
    """The canvas on which most of a picture's pixels show, of several the one that has the least room beside them, of
    these the first."""
    height, width = picture

    def shown(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        return pixels, pixels - canvas[0] * canvas[1]

    return max(canvases, key=shown)


def on_middle(picture: Picture, canvas: Size) -> Picture:
    """The picture in its proportions in the middle of a black canvas, as large as fits."""
    height, width = canvas
    across, down = width / picture.width, height / picture.height
    if across < down:
        h, w = min(ceil(picture.height * across), height), width
    else:
        h, w = height, min(ceil(picture.width * down), width)
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    pixels[top : top + h, left : left + w] = picture.resized(w, h, "bicubic").pixels
    return Picture(pixels)


def lines_of(canvas: Size, side: int) -> I64:
    """The numbers of the patches of a canvas of so many tiles, each of ``side`` x ``side`` patches which are counted
    tile by tile: (rows of patches, columns of patches)."""
    rows, columns = canvas
    numbers = np.arange(rows * columns * side**2).reshape(rows, columns, side, side)
    return numbers.swapaxes(1, 2).reshape(rows * side, columns * side)


def kept(lines: I64, picture: Size) -> I64:
    """Of the patches of a canvas those over the picture on it, whose own sides are given."""
    (rows, columns), (height, width) = lines.shape, picture
    if width / height > columns / rows:
        beside = (rows - int(round(height * (columns / width), 7))) // 2
        return lines[beside : rows - beside]
    beside = (columns - int(round(width * (rows / height), 7))) // 2
    return lines[:, beside : columns - beside]
