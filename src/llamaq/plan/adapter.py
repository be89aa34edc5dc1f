"""What an adapter adds to the products of a plan: low-rank factors of some of its matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import Format
from llamaq.plan.operands import Weight

__all__ = ["Adapted", "Factors", "LowRank"]


@dataclass(frozen=True, eq=False)
class Factors:
    """The product of a matrix with x gets ``B @ (A @ x * scale)`` added. ``a`` is A, uint8 (rank, bytes of a row) in
    ``a_format``; ``b`` is B, uint8 (rows of the matrix, bytes of a row)."""

    a_format: Format
    a: NDArray[np.uint8]
    b_format: Format
    b: NDArray[np.uint8]
    scale: float

    @property
    def rank(self) -> int:
        return len(self.a)


LowRank: TypeAlias = Mapping[Weight, Factors]
"""The factors of a plan's matrices, by what the plan reads."""

Adapted: TypeAlias = tuple[tuple[object, float], ...]
"""What the tokens of a sequence go through: what ``attach`` of the executor gave for an adapter, and how much of it."""
