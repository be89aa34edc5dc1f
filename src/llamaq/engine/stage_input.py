"""The rows that a stage of a model reads in the place of tokens: a table that is written anew before each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llamaq.engine.engine import Info, Tensors
from llamaq.formats import Format, format_by_name
from llamaq.plan.cut import INPUT

__all__ = ["StageInput"]


@dataclass(frozen=True)
class _Table:
    format: Format
    shape: tuple[int, ...]
    nbytes: int


class StageInput:
    """A source of a model's tensors with the table of a stage that begins behind another: ``max_rows`` rows of ``cols``
    floats. It must live as long as the engine that reads from it."""

    def __init__(self, source: Tensors, max_rows: int, cols: int) -> None:
        self._source = source
        self._rows = np.zeros((max_rows, cols), np.float32)
        table = _Table(format_by_name("F32"), self._rows.shape, self._rows.nbytes)
        self.tensors: Mapping[str, Info] = {**source.tensors, INPUT: table}

    @property
    def mapped(self) -> bool:
        return self._source.mapped

    def data(self, name: str) -> NDArray[np.uint8]:
        return self._rows.view(np.uint8) if name == INPUT else self._source.data(name)

    def check(self) -> None:
        self._source.check()

    def put(self, rows: NDArray[np.float32]) -> NDArray[np.int32]:
        """Writes the rows of a step, float32 (rows, cols); gives the ids that stand for them. Raises ``ValueError`` for
        rows that do not fit."""
        if rows.ndim != 2 or rows.shape[1] != self._rows.shape[1] or len(rows) > len(self._rows):
            most, cols = self._rows.shape
            raise ValueError(f"a step takes up to {most} rows of {cols} floats, got shape {rows.shape}")
        self._rows[: len(rows)] = rows
        return np.arange(len(rows), dtype=np.int32)
