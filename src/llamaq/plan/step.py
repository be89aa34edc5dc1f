"""One forward pass's input: which tokens, of which sequences, at which positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llamaq.plan.adapter import Adapted

__all__ = ["Step"]

_ARRAYS = {"tokens": np.int32, "sequences": np.int32, "positions": np.int32, "wanted": np.bool_}


@dataclass(frozen=True, eq=False)
class Step:
    """Rows of a forward pass: int32 ids, sequences and positions, and whether the row's logits are wanted.

    Rows of one sequence stand in order, each position one more than the last; sequences may be mixed.
    Raises ``ValueError`` where that does not hold. A position below the cached length of its sequence
    rewinds the sequence to it.
    """

    tokens: NDArray[np.int32]
    sequences: NDArray[np.int32]
    positions: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    adapters: Mapping[int, Adapted] = field(default_factory=dict)
    """By sequence the adapters that its rows go through; those without have no entry."""

    spans: dict[int, tuple[int, int]] = field(init=False)
    """By sequence the positions of its rows, from the first to behind the last, in the order of their first rows."""

    def __post_init__(self) -> None:
        n = len(self.tokens)
        for name, dtype in _ARRAYS.items():
            array: NDArray[np.generic] = np.ascontiguousarray(getattr(self, name), dtype)
            if array.shape != (n,) or n == 0:
                raise ValueError(f"step: expected {n} (at least 1) {name}, got shape {array.shape}")
            object.__setattr__(self, name, array)
        spans: dict[int, tuple[int, int]] = {}
        # A loop is quicker than NumPy for the few rows of most steps.
        for sequence, position in zip(self.sequences.tolist(), self.positions.tolist(), strict=True):
            first, expected = spans.get(sequence, (position, position))
            if position != expected:
                raise ValueError("step: positions of one sequence must ascend by one")
            spans[sequence] = first, position + 1
        for name, least in (
            ("tokens", min(self.tokens.tolist())),
            ("sequences", min(spans)),
            ("positions", min(first for first, _ in spans.values())),
        ):
            if least < 0:
                raise ValueError(f"step: {name} must not be negative, got {least}")
        object.__setattr__(self, "spans", spans)

    @classmethod
    def of(
        cls,
        tokens: ArrayLike,
        *,
        sequence: int = 0,
        start: int = 0,
        wanted: Literal["last", "all", "none"] = "last",
        adapters: Adapted = (),
    ) -> Step:
        """Tokens of one sequence from position ``start`` on."""
        ids = np.asarray(tokens, np.int32)
        n = len(ids)
        mask = np.full(n, wanted == "all")
        if wanted == "last":
            mask[-1:] = True
        positions = np.arange(start, start + n, dtype=np.int32)
        return cls(ids, np.full(n, sequence, np.int32), positions, mask, {sequence: adapters} if adapters else {})

    @classmethod
    def join(cls, steps: Sequence[Step]) -> Step:
        """The rows of several steps in one."""
        return cls(
            np.concatenate([s.tokens for s in steps]),
            np.concatenate([s.sequences for s in steps]),
            np.concatenate([s.positions for s in steps]),
            np.concatenate([s.wanted for s in steps]),
            {sequence: adapters for s in steps for sequence, adapters in s.adapters.items()},
        )

    def __len__(self) -> int:
        return len(self.tokens)
