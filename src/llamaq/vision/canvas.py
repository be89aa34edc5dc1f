"""Pictures on canvases of square tiles, black where they do not reach, as Llama's models cut them."""

from __future__ import annotations

from math import isqrt

import numpy as np

from llamaq.models.keys import Keys
from llamaq.vision.preprocess import MOST_PIXELS, Picture

__all__ = ["arrangements", "check_tiles", "on_canvas"]


def check_tiles(keys: Keys, tiles: int, size: int) -> None:
    """Raises ``ModelError`` for tiles so large that no picture has as many pixels as a canvas of them."""
    most = isqrt(MOST_PIXELS // tiles)
    if size > most:
        raise keys.error("vision.image_size", size, f"up to {most} pixels for {tiles} tiles")


def arrangements(tiles: int) -> list[tuple[int, int]]:
    """Rows and columns of up to so many tiles, in the order of the models' tables."""
    return [(rows, columns) for rows in range(1, tiles + 1) for columns in range(1, tiles // rows + 1)]


def on_canvas(picture: Picture, tiles: int, size: int) -> Picture:
    """The picture in its proportions on a canvas of up to so many tiles of ``size`` pixels."""
    rows, columns = _canvas(picture.height, picture.width, tiles, size)
    height, width = _fitted(picture.height, picture.width, rows * size, columns * size, size)
    canvas = np.zeros((rows * size, columns * size, 3), np.uint8)
    canvas[:height, :width] = picture.resized(width, height, "bilinear").pixels
    return Picture(canvas)


def _canvas(height: int, width: int, tiles: int, size: int) -> tuple[int, int]:
    """Rows and columns of tiles on which a picture gets smallest of those that show it whole without making it smaller,
    else largest; of several the fewest tiles."""
    scales = {each: min(each[0] * size / height, each[1] * size / width) for each in arrangements(tiles)}
    grown = [scale for scale in scales.values() if scale >= 1]
    best = min(grown) if grown else max(scales.values())
    return min((each for each in scales if scales[each] == best), key=lambda each: each[0] * each[1])


def _fitted(height: int, width: int, most_height: int, most_width: int, size: int) -> tuple[int, int]:
    """Sides of a picture on such a canvas, in its proportions."""
    target_height, target_width = min(max(height, size), most_height), min(max(width, size), most_width)
    by_height, by_width = target_height / height, target_width / width
    if by_width < by_height:
        return min(int(height * by_width) or 1, target_height), target_width
    return target_height, min(int(width * by_height) or 1, target_width)
