"""One forward pass's input: which tokens, of which sequences, at which positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llamaq.plan.adapter import Adapted
from llamaq.plan.pictures import Picture

__all__ = ["Step"]

_ARRAYS = {"tokens": np.int32, "sequences": np.int32, "positions": np.int32, "wanted": np.bool_, "last_seen": np.int32,
           "places": np.int32, "marked": np.bool_}  # fmt: skip
_MAY_LACK = ("last_seen", "places")


@dataclass(frozen=True, eq=False)
class Step:
    """Rows of a forward pass: int32 ids, sequences and positions, and whether the row's logits are wanted.

    Rows of one sequence stand in order, each position one more than the last; sequences may be mixed.
    Raises ``ValueError`` where that does not hold. A position below the cached length of its sequence
    rewinds the sequence to it.

    ``given`` are rows of floats, float32 (n, columns), that stand in the place of tokens: the id -1 - i is row i of
    them. ``last_seen`` are the last positions that rows see, where some see later rows of their sequence in this step;
    along a sequence they do not descend. ``places``, (rows, 3), are the time, row and column that ropes with axes turn
    by; without them each of the three is the position.

    ``seen`` are begin and end, int32 (rows, 2), of what each row sees: for cross-attention those of the ``pictures``,
    in an encoder rows of its text. ``marked`` are rows that the op ``choose`` tells from others; where it is left out,
    they are those that see pictures.
    """

    tokens: NDArray[np.int32]
    sequences: NDArray[np.int32]
    positions: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    adapters: Mapping[int, Adapted] = field(default_factory=dict)
    """By sequence the adapters that its rows go through; those without have no entry."""
    given: NDArray[np.float32] | None = None
    last_seen: NDArray[np.int32] | None = None
    places: NDArray[np.int32] | None = None
    pictures: tuple[Picture, ...] = ()
    seen: NDArray[np.int32] | None = None
    marked: NDArray[np.bool_] | None = None

    spans: dict[int, tuple[int, int]] = field(init=False)
    """By sequence the positions of its rows, from the first to behind the last, in the order of their first rows."""

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if self.seen is not None:
            self._check_seen(self.seen)
        for name, dtype in _ARRAYS.items():
            if getattr(self, name) is None:
                continue
            array: NDArray[np.generic] = np.ascontiguousarray(getattr(self, name), dtype)
            if array.shape != ((n, 3) if name == "places" else (n,)) or n == 0:
                raise ValueError(f"step: expected {n} (at least 1) {name}, got shape {array.shape}")
            object.__setattr__(self, name, array)
        spans: dict[int, tuple[int, int]] = {}
        # A loop is quicker than NumPy for the few rows of most steps.
        for sequence, position in zip(self.sequences.tolist(), self.positions.tolist(), strict=True):
            first, expected = spans.get(sequence, (position, position))
            if position != expected:
                raise ValueError("step: positions of one sequence must ascend by one")
            spans[sequence] = first, position + 1
        if self.given is not None:
            object.__setattr__(self, "given", np.ascontiguousarray(self.given, np.float32))
            if self.given.ndim != 2:
                raise ValueError(f"step: rows that are given form a matrix, got shape {self.given.shape}")
        for name, value, least in (
            ("tokens", min(self.tokens.tolist()), 0 if self.given is None else -len(self.given)),
            ("sequences", min(spans), 0),
            ("positions", min(first for first, _ in spans.values()), 0),
        ):
            if value < least:
                expected = f"be {least} or more" if least else "not be negative"
                raise ValueError(f"step: {name} must {expected}, got {value}")
        object.__setattr__(self, "spans", spans)
        if self.last_seen is not None:
            self._check_last_seen(self.last_seen)

    def _check_seen(self, seen: NDArray[np.int32]) -> None:
        seen = np.ascontiguousarray(seen, np.int32)
        if seen.shape != (len(self.tokens), 2):
            raise ValueError(f"step: expected begin and end of what each row sees, got shape {seen.shape}")
        if (
            self.pictures
            and not ((seen[:, 0] >= 0) & (seen[:, 0] <= seen[:, 1]) & (seen[:, 1] <= len(self.pictures))).all()
        ):
            raise ValueError(f"step: rows see some of {len(self.pictures)} pictures, got {seen.tolist()}")
        object.__setattr__(self, "seen", seen)
        if self.pictures and self.marked is None:
            object.__setattr__(self, "marked", seen[:, 0] < seen[:, 1])

    def _check_last_seen(self, last_seen: NDArray[np.int32]) -> None:
        seen: dict[int, int] = {}
        for sequence, position, last in zip(
            self.sequences.tolist(), self.positions.tolist(), last_seen.tolist(), strict=True
        ):
            if not max(position, seen.get(sequence, 0)) <= last < self.spans[sequence][1]:
                raise ValueError(
                    f"step: a row at position {position} sees up to itself or a later row of the step, and no less "
                    f"than the one before it; got {last}"
                )
            seen[sequence] = last

    @classmethod
    def of(
        cls,
        tokens: ArrayLike,
        *,
        sequence: int = 0,
        start: int = 0,
        wanted: Literal["last", "all", "none"] = "last",
        adapters: Adapted = (),
        given: NDArray[np.float32] | None = None,
        last_seen: NDArray[np.int32] | None = None,
        places: NDArray[np.int32] | None = None,
        pictures: tuple[Picture, ...] = (),
        seen: NDArray[np.int32] | None = None,
        marked: NDArray[np.bool_] | None = None,
    ) -> Step:
        """Tokens of one sequence from position ``start`` on."""
        ids = np.asarray(tokens, np.int32)
        n = len(ids)
        mask = np.full(n, wanted == "all")
        if wanted == "last":
            mask[-1:] = True
        positions = np.arange(start, start + n, dtype=np.int32)
        own = {sequence: adapters} if adapters else {}
        return cls(
            ids, np.full(n, sequence, np.int32), positions, mask, own, given, last_seen, places, pictures, seen, marked
        )

    @classmethod
    def join(cls, steps: Sequence[Step]) -> Step:
        """The rows of several steps in one."""
        given = [s.given for s in steps if s.given is not None]
        before = np.cumsum([0, *(0 if s.given is None else len(s.given) for s in steps[:-1])])
        tokens = [np.where(s.tokens < 0, s.tokens - n, s.tokens) for s, n in zip(steps, before, strict=True)]
        spans, placed = (any(getattr(s, name) is not None for s in steps) for name in _MAY_LACK)
        pictures = tuple(picture for s in steps for picture in s.pictures)
        first = np.cumsum([0, *(len(s.pictures) for s in steps[:-1])])
        seen = [
            np.zeros((len(s), 2), np.int32) if s.seen is None else s.seen + n for s, n in zip(steps, first, strict=True)
        ]
        return cls(
            np.concatenate(tokens),
            np.concatenate([s.sequences for s in steps]),
            np.concatenate([s.positions for s in steps]),
            np.concatenate([s.wanted for s in steps]),
            {sequence: adapters for s in steps for sequence, adapters in s.adapters.items()},
            np.concatenate(given) if given else None,
            np.concatenate([s.positions if s.last_seen is None else s.last_seen for s in steps]) if spans else None,
            np.concatenate([s.all_places for s in steps]) if placed else None,
            pictures,
            np.concatenate(seen).astype(np.int32) if pictures else None,
        )

    @property
    def all_places(self) -> NDArray[np.int32]:
        """The places of the rows, also where each is the position."""
        return np.repeat(self.positions[:, None], 3, axis=1) if self.places is None else self.places

    def __len__(self) -> int:
        return len(self.tokens)
