"""New tensors as parts of a checkpoint's: which rows and columns, stacked, turned around, reordered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NewTensor", "View"]


@dataclass(frozen=True)
class View:
    """A matrix within a tensor of the checkpoint: ``rows`` and ``cols`` at ``index`` of the dimensions before them.

    ``transposed``: its columns are the new rows. A vector has no ``cols``.
    """

    name: str
    rows: range
    cols: range | None = None
    index: tuple[int, ...] = ()
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, rows first."""
        if self.cols is None:
            return (len(self.rows),)
        return (len(self.cols), len(self.rows)) if self.transposed else (len(self.rows), len(self.cols))

    def part(self, span: range) -> tuple[range, ...]:
        """Where rows ``span`` of the view lie in the checkpoint's tensor, one range for each dimension."""
        rows, cols = self.rows, self.cols
        if self.transposed and cols is not None:
            cols = cols[span.start : span.stop]
        else:
            rows = rows[span.start : span.stop]
        return (*(range(i, i + 1) for i in self.index), rows, *(() if cols is None else (cols,)))

    @classmethod
    def whole(cls, name: str, shape: tuple[int, ...], *index: int) -> View:
        """All of a tensor of ``shape``, or of the matrix or vector at ``index``."""
        rest = shape[len(index) :]
        return cls(name, range(rest[0]), range(rest[1]) if len(rest) > 1 else None, index)


@dataclass(frozen=True)
class NewTensor:
    """A tensor of the GGUF file: ``views`` are its matrices, one, or where ``stacked`` all of them in order, or where
    ``joined`` the parts of one, below one another. Where there are ``columns``, these follow each other in its rows.
    ``cut``: the dimensions of a row, where it has several.

    Afterwards ``shift`` is added to each weight, and the rows of each of ``heads`` are reordered as RoPE's pairs
    (0: they are not). ``negative_exp``: of each weight, minus its exponential; ``change`` is made of the numbers
    otherwise. ``packed``: they are MXFP4 already. ``outer`` are the dimensions of a stack, where they are several.
    """

    name: str
    views: tuple[View, ...]
    stacked: bool = False
    heads: int = 0
    shift: float = 0.0
    packed: bool = False
    joined: bool = False
    columns: tuple[range, ...] = ()
    negative_exp: bool = False
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    outer: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first; a stack's matrices before them."""
        inner = self.views[0].shape
        if self.cut:
            return (inner[0], *self.cut)
        if self.joined:
            return (sum(view.shape[0] for view in self.views), *inner[1:])
        return (*(self.outer or (len(self.views),)), *inner) if self.stacked else inner
