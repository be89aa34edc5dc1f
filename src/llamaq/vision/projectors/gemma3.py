"""Gemma 3: SigLIP on one square picture, its patches averaged by blocks; all rows see each other.

Facts: https://arxiv.org/abs/2503.19786, and the files of llama.cpp's converter.
"""

from __future__ import annotations

from typing import ClassVar

from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector
from llamaq.vision.vit import encoded

__all__ = ["Gemma3"]


class Gemma3(Projector):
    placeholder: ClassVar[str] = "<start_of_image>"
    together: bool = True
    transposed: ClassVar[str] = "mm.input_projection.weight"

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.projector.scale_factor", 4, high=self.hp.grid)

    def trace(self, g: Graph) -> Value:
        x = g.merge_rows(encoded(g, self.hp), "mean", self.merge**2)
        return g.linear(x, "mm.input_projection", norm=Norm("mm.soft_emb_norm", self.hp.eps))

    def pieces(self, picture: Picture) -> list[str | Picture]:
        size = self.hp.image_size
        tile = picture.resized(size, size, "bilinear")
        return ["\n\n<start_of_image>", tile, "<end_of_image>\n\n"]
