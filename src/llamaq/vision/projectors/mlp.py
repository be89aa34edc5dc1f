"""LLaVA 1.5: CLIP or SigLIP on one square picture; states of patches behind one layer, or behind several, become rows.

Facts: https://arxiv.org/abs/2310.03744, transformers' code of the model, and the files of llama.cpp's converter, which
leave out the layers behind those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Value
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.vision.classed import Classed
from llamaq.vision.patches import F32
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Piece
from llamaq.vision.vit import POSITIONS, block

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
                raise ModelError(f"tensor {name!r}: expected a projector of LLaVA's, got one with {what}")
        layers = self.hp.layers
        self.taken: tuple[int, ...] = (layers,)
        """Layers whose states are read, counted from 1 on."""
        if keys.count("vision.feature_layer"):
            self.taken = keys.integers("vision.feature_layer", low=1, high=layers)
            if max(self.taken) != layers or len({*self.taken}) < len(self.taken):
                raise keys.error(
                    "vision.feature_layer", [*self.taken], f"different layers, the last of the {layers} among them"
                )
        # SigLIP has no row for the class.
        self.has_class = keys.shapes.get(f"{POSITIONS}.weight", ())[:1] != (self.hp.grid**2,)
        self._columns = (keys.shapes.get("mm.2.weight") or (self.hp.columns,))[0]
        self._factor = 1.0
        self.crops = keys.flag("vision.image_crop", False)
        """Whether a picture's longer sides are cut off, as transformers does, and not its shorter ones filled up."""
        self.stretches = keys.flag("vision.image_stretch", False)
        """Whether it is made a square whatever its proportions."""

    @property
    def columns(self) -> int:
        return self._columns  # projection_dim is that of CLIP in most files

    def meet(self, model: Mapping[str, Any]) -> None:
        architecture = str(model.get("general.architecture", ""))
        if architecture.startswith("granite"):  # it multiplies rows of pictures as those of tokens
            self._factor = Keys(model, {}, architecture).non_negative("embedding_scale", 0.0) or 1.0

    def inserted(
        self, first: int, rows: F32, grid: tuple[int, int] | None, *, token: int, precise: bool
    ) -> Inserted | LookedAt:
        with np.errstate(all="ignore"):
            return Inserted(first, rows if self._factor == 1.0 else rows * np.float32(self._factor))

    def merged(self, keys: Keys) -> int:
        return 1

    def trace(self, g: Graph) -> Value:
        x, states = self.begun(g), {}
        for i in g.layers(self.hp.layers):
            x = states[i + 1] = block(g, self.hp, i, x)
        read = [states[i] for i in self.taken]
        x = g.select_rows(read[0] if len(read) == 1 else g.concat(*read))
        return g.linear(g.act_linear(x, "mm.0", act="gelu_erf"), "mm.2")

    def pieces(self, picture: Picture) -> Sequence[Piece]:
        size = self.hp.image_size
        if self.stretches:
            return [picture.resized(size, size, "bicubic")]
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
