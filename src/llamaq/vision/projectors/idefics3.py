"""SmolVLM and Idefics 3: a picture in tiles and once as a whole; the patches of a block stand in one row."""

from __future__ import annotations

from typing import ClassVar

from llamaq.errors import naming
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Value
from llamaq.vision.preprocess import Picture
from llamaq.vision.projector import Projector
from llamaq.vision.vit import encoded

__all__ = ["Idefics3"]

_MOST_EDGE = 4096  # pixels; SmolVLM's files say 2048
_MARK = "<fake_token_around_image>"


class Idefics3(Projector):
    placeholder: ClassVar[str] = "<image>"

    def __init__(self, keys: Keys) -> None:
        super().__init__(keys)
        size = self.hp.image_size
        self.longest_edge = keys.integer("vision.preproc_image_size", size, low=size, high=_MOST_EDGE)
        """Pixels of the longer side of the picture that is cut into tiles."""

    def choose_edge(self, edge: int) -> None:
        size = self.hp.image_size
        if not size <= edge <= _MOST_EDGE:
            message = f"image_edge must be {size} (a tile) to {_MOST_EDGE} pixels, got {edge}"
            raise naming(ValueError(message), "image_edge")
        self.longest_edge = edge

    def merged(self, keys: Keys) -> int:
        return keys.integer("vision.projector.scale_factor", 4, high=self.hp.grid)

    @property
    def most_rows(self) -> int:
        return ((-(-self.longest_edge // self.hp.image_size)) ** 2 + 1) * self.rows

    def trace(self, g: Graph) -> Value:
        return g.linear(g.merge_rows(encoded(g, self.hp), "join", self.merge**2), "mm.model.fc")

    def pieces(self, picture: Picture) -> list[str | Picture]:
        size = self.hp.image_size
        whole = picture.resized(*_scaled(picture, self.longest_edge), "lanczos")
        columns, rows = _tiles(whole, size)
        whole = whole.resized(columns * size, rows * size, "lanczos")
        if columns * rows == 1:
            return [f"{_MARK}<global-img>", whole, _MARK]
        found: list[str | Picture] = []
        for row in range(rows):
            for column in range(columns):
                line = "\n" if row and not column else ""
                found.append(f"{line}{_MARK}<row_{row + 1}_col_{column + 1}>")
                found.append(whole.cut(column * size, row * size, size, size))
        return [*found, f"\n\n{_MARK}<global-img>", whole.resized(size, size, "lanczos"), _MARK]


def _scaled(picture: Picture, longest: int) -> tuple[int, int]:
    """Sides of the picture whose longer one is ``longest``, the other even."""
    ratio = picture.width / picture.height
    if picture.width >= picture.height:
        height = int(longest / ratio)
        return longest, max(1, height + height % 2)
    width = int(longest * ratio)
    return max(1, width + width % 2), longest


def _tiles(picture: Picture, size: int) -> tuple[int, int]:
    """Columns and rows of tiles that a picture is stretched to."""
    ratio = picture.width / picture.height
    if picture.width >= picture.height:
        columns = -(-picture.width // size)
        return columns, max(1, -(-int(columns * size / ratio) // size))
    rows = -(-picture.height // size)
    return max(1, -(-int(rows * size * ratio) // size)), rows
