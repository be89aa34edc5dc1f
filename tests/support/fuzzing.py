"""What the searches for inputs that do harm share: mutations, and a loop that lasts LLAMAQ_FUZZ_SECONDS (default 5).

A search is not reproducible on purpose: every run looks elsewhere, and hypothesis prints the example that fails.
"""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from llamaq.errors import LlamaqError

__all__ = ["EXTREMES", "Mutation", "bounded", "damaged", "json_values", "mutated", "mutations", "runs", "search"]

SECONDS = float(os.environ.get("LLAMAQ_FUZZ_SECONDS", "5"))
HANG = 120.0  # seconds of the processor's time: nothing here takes as long
EXTREMES = [0, 1, 2, 3, 4, 8, 9, 12, 31, 127, 255, 1 << 16, 1 << 31, 1 << 32, 1 << 60, 1 << 63, (1 << 64) - 1]

Mutation = Callable[[bytes], bytes]


def search(test: Callable[[], None], *, examples: int = 50) -> None:
    """Runs a test made with ``hypothesis.given`` again and again until the time is over, once at least."""
    options = settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    once, end = options(test), time.monotonic() + SECONDS
    while True:
        once()
        if time.monotonic() >= end:
            return


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Holds what runs inside to so many bytes of memory, NumPy's included, and to an end."""
    started = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert time.process_time() - started < HANG
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def runs(act: Callable[[], object], *places: object) -> bool:
    """Whether it runs. What refuses it must be a LlamaqError of one line that names one of ``places``, if any."""
    try:
        act()
    except LlamaqError as error:
        message = str(error)
    else:
        return True
    assert "\n" not in message
    assert not places or any(str(place) in message for place in places), message
    return False


def mutated(raw: bytes, changes: list[Mutation]) -> bytes:
    for change in changes:
        raw = change(raw)
    return raw


def mutations() -> st.SearchStrategy[Mutation]:
    """Flipped bits, numbers, pieces moved or dropped, an early end: of any bytes."""
    place = st.floats(0, 1, exclude_max=True)

    def flip(at: float, bit: int) -> Mutation:
        def apply(raw: bytes) -> bytes:
            copy = bytearray(raw)
            if copy:
                copy[int(at * len(copy))] ^= 1 << bit
            return bytes(copy)

        return apply

    def number(at: float, value: int, code: str) -> Mutation:
        field = struct.pack(code, value & ((1 << 8 * struct.calcsize(code)) - 1))

        def apply(raw: bytes) -> bytes:
            start = int(at * len(raw))
            return raw[:start] + field + raw[start + len(field) :]

        return apply

    def splice(source: float, target: float, size: int, drop: int) -> Mutation:
        def apply(raw: bytes) -> bytes:
            piece = raw[int(source * len(raw)) :][:size]
            start = int(target * len(raw))
            return raw[:start] + piece + raw[start + drop :]

        return apply

    def cut(at: float) -> Mutation:
        return lambda raw: raw[: int(at * len(raw))]

    values = st.sampled_from(EXTREMES) | st.integers(0, (1 << 64) - 1)
    codes = st.sampled_from(["<I", ">I", "<Q", ">Q", "<B"])
    sizes = st.integers(0, 64)
    return st.one_of(
        st.builds(flip, place, st.integers(0, 7)),
        st.builds(number, place, values, codes),
        st.builds(splice, place, place, sizes, sizes),
        st.builds(cut, place),
    )


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 64, 10**9, 2**31, 2**40, 2**64, 10**400, 1e308, -0.5, 0.5, "", "a", [], [1], ["a"],
    [[]], [None], {}, {"a": 1}, "ß" * 100,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """A copy of JSON with one or two places deleted, or given another value."""
    import copy

    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(value))
        if not places:
            return draw(st.sampled_from(VALUES))
        holder, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 5)) == 0:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        yield from _places(below)


def json_values(keys: Sequence[str], words: Sequence[str]) -> st.SearchStrategy[Any]:
    """Any JSON, of objects with these keys and texts among which are these words."""
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(words)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner),
        max_leaves=8,
    )
