"""What every kind of projector says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from llamaq.errors import naming
from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation
from llamaq.plan.graph import Graph, Value
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.plan.step import Step
from llamaq.vision.hparams import VisionHParams, read
from llamaq.vision.patches import F32, I64, Mosaic, Patches, Tile, block_order, pixels_of
from llamaq.vision.preprocess import Picture
from llamaq.vision.vit import POSITIONS

__all__ = ["Piece", "Projector", "TableOf", "Tile"]

Piece: TypeAlias = "str | Picture | Mosaic"
TableOf: TypeAlias = Callable[[str], F32]


class Projector(ABC):
    """Made of a file's keys; ``merge`` x ``merge`` neighbouring patches become one row."""

    placeholder: ClassVar[str]
    """What chat templates of such models write for a picture."""
    together: bool = False
    """Whether the rows of a tile see each other in the language model."""
    any_shape: ClassVar[bool] = False
    """Whether pictures keep their proportions, whatever the size of an image that the file tells."""
    activation: ClassVar[Activation | None] = None
    """That of the encoder, where files leave it open."""
    transposed: ClassVar[str] = ""
    """A tensor that files have the other way round."""
    alternating: ClassVar[str] = ""
    """A matrix in whose columns the patches of a block alternate, which the plan has one behind the other."""
    places: ClassVar[bool] = False
    """Whether the language model turns rows by their place in the picture."""
    looked_at: ClassVar[bool] = False
    """Whether a picture is one token of the text, at whose states layers with cross-attention look."""

    def __init__(self, keys: Keys) -> None:
        self.hp: VisionHParams = read(keys, self.activation)
        self.merge = self.merged(keys)
        if self.hp.grid % self.merge and not self.any_shape:
            raise keys.error("vision.image_size", self.hp.image_size, f"patches by {self.merge} along each side")

    taken_layers: int = 0
    """Layers whose states stand beside the last one's, where there are such."""

    @property
    def rows(self) -> int:
        """Rows of one tile."""
        return (self.hp.grid // self.merge) ** 2

    @property
    def summary(self) -> str:
        """What it makes of a picture."""
        size = self.hp.image_size
        return f"{self.rows} rows of {self.columns} floats for {size} x {size} pixels"

    @property
    def columns(self) -> int:
        """Floats of a row."""
        return self.hp.columns

    @property
    def most_patches(self) -> int:
        """Of a tile."""
        return self.hp.grid**2

    def rows_of(self, tile: Tile) -> int:
        """Rows that a tile has in a text."""
        rows, columns = (side // self.hp.patch_size // self.merge for side in tile.shape[:2])
        return int(rows * columns)

    def kept_rows_of(self, tile: Tile) -> int:
        """Rows that are kept of it."""
        return self.rows_of(tile)

    @property
    def most_rows(self) -> int:
        """Rows that are kept of a picture, at most."""
        return self.most_patches // self.merge**2

    @property
    def order(self) -> I64:
        """The number of each patch, row by row, in the order in which the plan reads them: block by block."""
        return block_order(self.hp.grid, self.hp.grid, self.merge)

    def patches(self, tile: Tile) -> Patches:
        """What the plan reads of a tile."""
        return Patches(pixels_of(tile, self.hp)[self.order])

    def step(self, read: Patches) -> Step:
        """A forward pass of the plan over a tile."""
        step = Step.of(-1 - np.arange(len(read.rows)), given=read.rows, wanted="none", places=read.places)
        step.wanted[:: self.merge**2] = True
        return step

    def meet(self, model: Mapping[str, Any]) -> None:
        """Learns from the keys of the language model's file what it needs to know of it."""
        return

    def keep(self, table: TableOf) -> None:
        """Keeps what it needs itself of the file's tensors, before ``trace``; ``table`` gives one by its name."""
        return

    def row_order(self, name: str, shape: tuple[int, ...]) -> I64 | None:
        """The numbers of a tensor's rows in the order in which the plan has them, where the file has another one."""
        is_places = name == f"{POSITIONS}.weight" and len(shape) == 2 and shape[0] == self.hp.grid**2
        return self.order if is_places else None

    def inserted(
        self, first: int, rows: F32, grid: tuple[int, int] | None, *, token: int, precise: bool
    ) -> Inserted | LookedAt:
        """What the plan's result for a tile is in a text, under ids from ``first`` on; ``token`` is that of a picture,
        ``grid`` that of its places, and ``precise`` keeps what is looked at in 32 bits, not 16."""
        return Inserted(first, rows, self.together, grid)

    def joined(self, rows: Sequence[F32], order: I64) -> F32:
        """The rows of a ``Mosaic``, of those of each tile."""
        return np.concatenate(rows)[order]

    def choose_edge(self, edge: int) -> None:
        """Pictures are scaled to ``edge`` pixels of their longer side, where the kind of projector leaves a choice.
        Raises ``ValueError``."""
        message = f"image_edge must be left out: projectors of the kind {self.hp.projector} have no choice, got {edge}"
        raise naming(ValueError(message), "image_edge")

    @abstractmethod
    def merged(self, keys: Keys) -> int:
        """Patches of a side that become one row."""

    @abstractmethod
    def trace(self, g: Graph) -> Value:
        """Rows (rows, columns) of the patches of one tile, of which each block of ``merge`` x ``merge`` stands together
        and the first of each block is wanted."""

    @abstractmethod
    def pieces(self, picture: Picture) -> Sequence[Piece]:
        """What stands in the prompt in the place of a picture: text, special tokens in it, and tiles."""
