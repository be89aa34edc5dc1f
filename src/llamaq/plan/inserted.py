"""What an image leaves in a text: rows of floats in the place of tokens, or a token behind which layers look at it.

A text with them is a list of ids as any other: they have ids of their own behind the vocabulary, the same for the same
image, so that whoever compares texts needs to know nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from llamaq.plan.adapter import Adapted
from llamaq.plan.pictures import Picture
from llamaq.plan.step import Step

__all__ = ["Inserted", "LookedAt", "places_of", "step_of", "whole_spans"]


@dataclass(frozen=True, eq=False)
class Inserted:
    """``rows``, float32 (n, columns), whose ids are ``first`` to ``first + n - 1``. With ``together`` each sees all of
    them, so that one step must hold them all. ``grid`` are the rows and columns of a picture whose rows have places of
    their own (``Step.places``): what follows goes on behind the longer side."""

    first: int
    rows: NDArray[np.float32]
    together: bool = False
    grid: tuple[int, int] | None = None

    @property
    def ids(self) -> range:
        return range(self.first, self.first + len(self.rows))

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes


@dataclass(frozen=True, eq=False)
class LookedAt:
    """A picture whose place in a text has the id ``first``; the model reads ``token`` there. From then on
    cross-attention sees it, until another one comes; of pictures that stand side by side all."""

    first: int
    token: int
    picture: Picture
    together: ClassVar[bool] = False

    @property
    def ids(self) -> range:
        return range(self.first, self.first + 1)

    @property
    def nbytes(self) -> int:
        return self.picture.pages.nbytes


def step_of(
    ids: Sequence[int], inserted: Sequence[Inserted | LookedAt], *, sequence: int, start: int, adapters: Adapted = (),
    places: NDArray[np.int32] | None = None, text: Sequence[int] = (),
) -> Step:  # fmt: skip
    """The ids as a step of one sequence from position ``start`` on, in which no logits are wanted; ``places`` are those
    of the whole text (``places_of``), ``text`` has the ids before them."""
    if not inserted:
        return Step.of(ids, sequence=sequence, start=start, wanted="none", adapters=adapters)
    looked_at = {each.first: each for each in inserted if isinstance(each, LookedAt)}
    if looked_at:
        tokens = [looked_at[id].token if id in looked_at else id for id in ids]
        pictures, seen = _looked_at([*text[:start], *ids], start, looked_at)
        return Step.of(
            tokens, sequence=sequence, start=start, wanted="none", adapters=adapters, pictures=pictures, seen=seen
        )
    rows = [each for each in inserted if isinstance(each, Inserted)]
    return _with_rows(ids, rows, sequence, start, adapters, places)


def _looked_at(
    text: Sequence[int], start: int, known: Mapping[int, LookedAt]
) -> tuple[tuple[Picture, ...], NDArray[np.int32]]:
    """The pictures that ids from number ``start`` on see, and which of them each sees."""
    array = np.asarray(text, np.int64)
    places = np.nonzero(np.isin(array, [*known]))[0]
    alone = np.diff(places, prepend=-2) != 1  # the first of those that stand side by side
    begins = np.maximum.accumulate(np.where(alone, np.arange(len(places)), 0)) if len(places) else places
    ends = np.searchsorted(places, np.arange(start, len(text)), side="right")
    seen = np.stack([np.append(0, begins)[ends], ends], axis=1)
    least = int(seen[0, 0])
    pictures = tuple(known[int(array[place])].picture for place in places[least:])
    return pictures, np.maximum(seen - least, 0).astype(np.int32)


def _with_rows(
    ids: Sequence[int], inserted: Sequence[Inserted], sequence: int, start: int, adapters: Adapted,
    places: NDArray[np.int32] | None,
) -> Step:  # fmt: skip
    tokens = np.asarray(ids, np.int64)  # the ids of rows may be large
    last = np.arange(start, start + len(tokens), dtype=np.int32)
    given = [np.empty((0, inserted[0].rows.shape[1]), np.float32)]
    at = total = 0
    while at < len(tokens):
        found = _of(int(tokens[at]), inserted)
        if found is None:
            at += 1
            continue
        offset = int(tokens[at]) - found.first
        count = min(len(found.rows) - offset, len(tokens) - at)
        if found.together:
            last[at : at + count] = start + at + count - 1
        tokens[at : at + count] = -1 - total - np.arange(count)
        given.append(found.rows[offset : offset + count])
        at, total = at + count, total + count
    return Step.of(
        tokens, sequence=sequence, start=start, wanted="none", adapters=adapters, given=np.concatenate(given),
        last_seen=last, places=None if places is None else _from(places, start, len(tokens)),
    )  # fmt: skip


def places_of(ids: Sequence[int], inserted: Sequence[Inserted | LookedAt]) -> NDArray[np.int32] | None:
    """The places of a text's ids and of the one behind it, from which all others count on: int32 (ids + 1, 3). None
    where none of the rows have places of their own."""
    grids = {each.first: each for each in inserted if isinstance(each, Inserted) and each.grid is not None}
    if not grids:
        return None
    n = len(ids)
    places = np.repeat(np.arange(n + 1, dtype=np.int32)[:, None], 3, axis=1)
    for at, id in enumerate(ids):
        if (each := grids.get(id)) is None or each.grid is None:
            continue
        start, end = int(places[at, 0]), min(at + len(each.rows), n)
        across = np.arange(end - at, dtype=np.int32)
        places[at:end, 0] = start
        places[at:end, 1] = start + across // each.grid[1]
        places[at:end, 2] = start + across % each.grid[1]
        places[end:] = (start + max(each.grid) + np.arange(n + 1 - end, dtype=np.int32))[:, None]
    return places


def _from(places: NDArray[np.int32], start: int, count: int) -> NDArray[np.int32]:
    """Those of so many ids from number ``start`` on, which may lie behind the text."""
    known = len(places) - 1
    numbers = np.arange(start, start + count)
    return places[np.minimum(numbers, known)] + np.maximum(numbers - known, 0)[:, None].astype(np.int32)


def whole_spans(ids: Sequence[int], inserted: Sequence[Inserted | LookedAt], start: int, count: int, most: int) -> int:
    """How many of the ids from number ``start`` on to read at once: ``count``, or fewer so as to end before rows that
    see each other, or more, up to ``most``, where these come first; 0 where there is no room for them."""
    rows = [each for each in inserted if isinstance(each, Inserted) and each.together]
    found = _of(ids[start + count - 1], rows) if count else None
    if found is None:
        return count
    before = ids[start + count - 1] - found.first + 1
    if before < count:
        return count if before == len(found.rows) else count - before
    whole = count - before + len(found.rows)
    return whole if whole <= most else 0


def _of(id: int, inserted: Sequence[Inserted]) -> Inserted | None:
    return next((each for each in inserted if each.first <= id < each.first + len(each.rows)), None)
