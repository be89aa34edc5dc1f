"""Rows among tokens: the steps that are made of them, and spans that are never cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaq.plan.inserted import Inserted, places_of, step_of, whole_spans

ALONE = Inserted(100, np.arange(6, dtype=np.float32).reshape(3, 2))
TOGETHER = Inserted(200, np.arange(10, 18, dtype=np.float32).reshape(4, 2), together=True)
BOTH = (ALONE, TOGETHER)
IDS = [1, *ALONE.ids, 2, *TOGETHER.ids, *TOGETHER.ids, 3]


def test_rows_take_the_places_of_their_ids() -> None:
    step = step_of(IDS, BOTH, sequence=5, start=20)
    assert step.tokens.tolist() == [1, -1, -2, -3, 2, -4, -5, -6, -7, -8, -9, -10, -11, 3]
    assert step.given is not None
    assert step.given[:, 0].tolist() == [0, 2, 4, 10, 12, 14, 16, 10, 12, 14, 16]
    assert step.last_seen is not None
    assert (step.last_seen - 20).tolist() == [0, 1, 2, 3, 4, 8, 8, 8, 8, 12, 12, 12, 12, 13]
    assert step.spans == {5: (20, 34)}
    assert not step.wanted.any()


def test_a_step_may_begin_among_rows() -> None:
    step = step_of(IDS[7:10], BOTH, sequence=0, start=7)
    assert step.given is not None
    assert step.given[:, 0].tolist() == [14, 16, 10]
    text = step_of([4, 5], BOTH, sequence=0, start=0)
    assert text.tokens.tolist() == [4, 5]
    assert step_of([4, 5], (), sequence=0, start=0).given is None


@pytest.mark.parametrize(
    ("start", "count", "most", "want"),
    [
        (0, 5, 5, 5),  # the rows lie before the span
        (0, 6, 9, 5),  # it would be cut, so the step ends before it
        (0, 8, 9, 5),
        (0, 9, 9, 9),  # it is whole
        (5, 1, 4, 4),  # it comes first: more rows than were wanted
        (5, 3, 4, 4),
        (5, 3, 3, 0),  # there is no room for it
        (5, 6, 8, 4),  # the second one waits
        (7, 1, 2, 2),  # its beginning is in the cache
        (0, 2, 2, 2),  # rows that see no later ones may be cut
        (13, 1, 1, 1),
        (3, 0, 9, 0),
    ],
)
def test_spans_are_not_cut(start: int, count: int, most: int, want: int) -> None:
    assert whole_spans(IDS, BOTH, start, count, most) == want


@given(st.integers(0, 13), st.integers(1, 14), st.integers(1, 14))
def test_every_cut_leaves_whole_spans(start: int, count: int, more: int) -> None:
    count = min(count, len(IDS) - start)
    found = whole_spans(IDS, BOTH, start, count, count + more)
    ends = {9, 13}
    inside = set(range(6, 9)) | set(range(10, 13))
    assert start + found not in inside or found == 0
    assert found <= count or start + found in ends


def test_places_of_pictures_go_by_rows_and_columns_and_texts_go_on_behind_the_longer_side() -> None:
    wide = Inserted(300, np.zeros((6, 2), np.float32), grid=(2, 3))
    tall = Inserted(400, np.zeros((4, 2), np.float32), grid=(4, 1))
    ids = [1, 2, *wide.ids, 3, *tall.ids, *wide.ids, 4]
    found = places_of(ids, (wide, tall))
    assert found is not None
    want = [[0] * 3, [1] * 3, *([2, 2 + row, 2 + column] for row in range(2) for column in range(3)), [5] * 3]
    want += [[6, 6 + row, 6] for row in range(4)]
    want += [[10, 10 + row, 10 + column] for row in range(2) for column in range(3)]
    assert found.tolist() == [*want, [13] * 3, [14] * 3]
    for start, count in ((0, len(ids)), (3, 2), (len(ids) - 1, 1)):
        step = step_of(ids[start : start + count], (wide, tall), sequence=0, start=start, places=found)
        np.testing.assert_array_equal(step.places, found[start : start + count])
    behind = step_of([7, 8], (wide, tall), sequence=0, start=len(ids) + 2, places=found)
    assert behind.places is not None
    assert behind.places.tolist() == [[16] * 3, [17] * 3]
    assert places_of(IDS, BOTH) is None
    assert step_of(IDS, BOTH, sequence=0, start=0).places is None
