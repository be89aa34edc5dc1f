"""What a step may hold, and what it tells of its sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamaq.plan.step import Step

ROWS: dict[str, Any] = {
    "tokens": [5, 6, 7, 8],
    "sequences": [3, 1, 3, 1],
    "positions": [0, 9, 1, 10],
    "wanted": [False] * 4,
}


def test_sequences_have_their_spans() -> None:
    assert Step(**ROWS).spans == {3: (0, 2), 1: (9, 11)}
    assert Step.join([Step.of([4, 4], sequence=2, start=7), Step.of([1], sequence=0)]).spans == {2: (7, 9), 0: (0, 1)}


def test_rows_that_are_given_keep_their_numbers_in_company() -> None:
    rows = [np.full((n, 3), n, np.float32) for n in (1, 2)]
    steps = [Step.of([4, -1], given=rows[0]), Step.of([5], sequence=1), Step.of([-2, -1, 6], sequence=2, given=rows[1])]
    joined = Step.join(steps)
    assert joined.tokens.tolist() == [4, -1, 5, -3, -2, 6]
    assert joined.given is not None
    assert joined.given.tolist() == [[1] * 3, [2] * 3, [2] * 3]
    assert joined.last_seen is None
    seeing = Step.of([4, 4, 4], sequence=3, start=7, last_seen=np.array([8, 8, 9]))
    assert Step.join([steps[0], seeing]).last_seen.tolist() == [0, 1, 8, 8, 9]  # type: ignore[union-attr]
    assert joined.places is None
    placed = Step.of([4], sequence=3, start=7, places=np.array([[1, 2, 3]]))
    assert Step.join([steps[0], placed]).places.tolist() == [[0] * 3, [1] * 3, [1, 2, 3]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"positions": [0, 9, 2, 10]}, "positions of one sequence must ascend by one"),
        ({"positions": [1, 9, 0, 10]}, "positions of one sequence must ascend by one"),
        ({"sequences": [3, 3, 3, 1]}, "positions of one sequence must ascend by one"),
        ({"positions": [-1, 9, 0, 10]}, "positions must not be negative, got -1"),
        ({"sequences": [-3, 1, -3, 1]}, "sequences must not be negative, got -3"),
        ({"tokens": [5, 6, -7, 8]}, "tokens must not be negative, got -7"),
        ({"tokens": [5, 6, -3, 8], "given": np.ones((2, 4))}, "tokens must be -2 or more, got -3"),
        ({"given": np.ones(4)}, r"form a matrix, got shape \(4,\)"),
        ({"last_seen": [0, 9, 0, 10]}, "a row at position 1 sees up to itself or a later row"),
        ({"last_seen": [1, 11, 1, 11]}, "a row at position 9 sees up to .* got 11"),
        ({"last_seen": [2, 9, 2, 10]}, "a row at position 0 sees up to .* got 2"),
        (
            {
                "tokens": [5] * 3,
                "sequences": [1] * 3,
                "positions": [0, 1, 2],
                "wanted": [False] * 3,
                "last_seen": [2, 1, 2],
            },
            "no less than the one before it; got 1",
        ),
        ({"last_seen": [0]}, r"expected 4 \(at least 1\) last_seen, got shape \(1,\)"),
        ({"places": [[0, 0]] * 4}, r"expected 4 \(at least 1\) places, got shape \(4, 2\)"),
        ({"wanted": [True]}, r"expected 4 \(at least 1\) wanted, got shape \(1,\)"),
        ({name: [] for name in ROWS}, r"expected 0 \(at least 1\) tokens"),
    ],
)
def test_rows_that_are_no_step(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Step(**{**ROWS, **changed})
