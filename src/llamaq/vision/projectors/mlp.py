"""LLaVA 1.5: CLIP on one square picture, of whose last layer but one the states of patches become rows.

Facts: https://arxiv.org/abs/2310.03744, transformers' code of the model, and the files of llama.cpp's converter, which
leave out the last layer.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Value
from llamaq.vision.classed import Classed
from llamaq.vision.preprocess import Picture
from llamaq.vision.vit import block

__all__ = ["Mlp"]

_MOST_SIDE = 4096  # pixels of a square that a picture is filled up to; a larger one is scaled down before
_OTHERS = {"mm.3.weight": "Yi-VL's projector with norms", "v.post_ln.weight": "a norm behind the last layer"}


class Mlp(Classed):
    placeholder: ClassVar[str] = "<image>"
    class_first: ClassVar[bool] = True

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        for name, what in _OTHERS.items():
            if name in keys.shapes:
                raise ModelError(f"tensor {name!r}: expected a projector of LLaVA 1.5, got one with {what}")
        if keys.count("vision.image_grid_pinpoints"):
            raise ModelError("clip.vision.image_grid_pinpoints: expected none, as of LLaVA 1.5, got those of LLaVA 1.6")
        if keys.count("vision.feature_layer"):
            layers = keys.integers("vision.feature_layer", low=1, high=self.hp.layers)
            if layers != (self.hp.layers,):
                raise keys.error("vision.feature_layer", [*layers], f"one layer, the last of the {self.hp.layers}")
        self._columns = keys.shapes.get("mm.2.weight", (self.hp.columns,))[0]
        self.crops = keys.flag("vision.image_crop", False)
        """Whether a picture's longer sides are cut off, as transformers does, and not its shorter ones filled up."""

    @property
    def columns(self) -> int:
        return self._columns  # projection_dim is that of CLIP in most files

    def merged(self, keys: Keys) -> int:
        return 1

    def trace(self, g: Graph) -> Value:
        x = self.begun(g)
        for i in g.layers(self.hp.layers):
            x = block(g, self.hp, i, x)
        return g.linear(g.act_linear(g.select_rows(x), "mm.0", act="gelu_erf"), "mm.2")

    def pieces(self, picture: Picture) -> list[str | Picture]:
        size = self.hp.image_size
        return [_middle(picture, size) if self.crops else _filled(picture, self.hp.mean).resized(size, size, "bicubic")]


def _filled(picture: Picture, mean: tuple[float, ...]) -> Picture:
    """The picture in the middle of a square of the mean colour."""
    longest = max(picture.width, picture.height)
    if longest > _MOST_SIDE:
        width, height = (max(1, round(side * _MOST_SIDE / longest)) for side in (picture.width, picture.height))
        picture, longest = picture.resized(width, height, "bicubic"), _MOST_SIDE
    square = np.full((longest, longest, 3), [int(of * 255) for of in mean], np.uint8)
    top, left = (longest - picture.height) // 2, (longest - picture.width) // 2
    square[top : top + picture.height, left : left + picture.width] = picture.pixels
    return Picture(square)


def _middle(picture: Picture, size: int) -> Picture:
    """The square in the middle of the picture whose shorter side has been made ``size`` pixels."""
    sides = picture.width, picture.height
    scaled = [size * side // min(sides) for side in sides]
    begins = [(side - size) // 2 * own / side for side, own in zip(scaled, sides, strict=True)]
    ends = [begin + size * own / side for begin, side, own in zip(begins, scaled, sides, strict=True)]
    return picture.resized(
        size, size, "bicubic", (begins[0], begins[1], min(ends[0], sides[0]), min(ends[1], sides[1]))
    )
