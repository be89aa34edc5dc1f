"""What an adapter adds to a plan: low-rank factors to products with some of its weights and look-ups in them, vectors
to what nodes give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import Format
from llamaq.plan.operands import Weight

__all__ = ["Adapted", "Directions", "Factors", "LowRank"]


@dataclass(frozen=True, eq=False)
class Factors:
    """The product of a matrix with x gets ``B @ (A @ x * scale)`` added. ``a`` is A, uint8 (rank, bytes of a row) in
    ``a_format``; ``b`` is B, uint8 (rows of the matrix, bytes of a row). Both of a stack have its number of matrices
    before. Row i of a table gets ``B @ (A[i] * scale)`` added: ``a`` has the table's rows, ``b`` its columns."""

    a_format: Format
    a: NDArray[np.uint8]
    b_format: Format
    b: NDArray[np.uint8]
    scale: float

    @property
    def rank(self) -> int:
        return int(self.b.shape[-1]) // self.b_format.block_bytes * self.b_format.block


LowRank: TypeAlias = Mapping[Weight, Factors]
"""The factors of a plan's weights, by what the plan reads."""

Directions: TypeAlias = Mapping[int, NDArray[np.float32]]
"""Vectors, float32 (columns,), that are added to the first result of a node, by its number."""

Adapted: TypeAlias = tuple[tuple[object, float], ...]
"""What the tokens of a sequence go through: what ``attach`` of the executor gave for an adapter, and how much of it."""
