"""What a step may hold, and what it tells of its sequences."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"positions": [0, 9, 2, 10]}, "positions of one sequence must ascend by one"),
        ({"positions": [1, 9, 0, 10]}, "positions of one sequence must ascend by one"),
        ({"sequences": [3, 3, 3, 1]}, "positions of one sequence must ascend by one"),
        ({"positions": [-1, 9, 0, 10]}, "positions must not be negative, got -1"),
        ({"sequences": [-3, 1, -3, 1]}, "sequences must not be negative, got -3"),
        ({"tokens": [5, 6, -7, 8]}, "tokens must not be negative, got -7"),
        ({"wanted": [True]}, r"expected 4 \(at least 1\) wanted, got shape \(1,\)"),
        ({name: [] for name in ROWS}, r"expected 0 \(at least 1\) tokens"),
    ],
)
def test_rows_that_are_no_step(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Step(**{**ROWS, **changed})
