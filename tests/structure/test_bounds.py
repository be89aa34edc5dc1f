"""Numbers between bounds: every text of a few digits beside Python's decimals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llamaq.gguf import GGUFFile
from llamaq.structure import json_schema
from llamaq.structure.schema.bounds import bounded
from llamaq.structure.schema.names import names_matching
from llamaq.tokenizer import Tokenizer, load_tokenizer
from structure_text import accepts

FRACTIONS = ["", *("." + "".join(digits) for n in (1, 2) for digits in itertools.product("01259", repeat=n))]
TEXTS = [sign + whole + fraction for sign in ("", "-") for whole in ("0", "1", "2") for fraction in FRACTIONS]


@pytest.fixture(scope="module")
def tokenizer(shared: Callable[[str], Path]) -> Tokenizer:
    with GGUFFile.open(shared("models") / "stories260K-F32.gguf") as file:
        return load_tokenizer(file.metadata)


def inside(text: str, limits: dict[str, float]) -> bool:
    value = Decimal(text)
    checks = {
        "minimum": lambda bound: value >= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMaximum": lambda bound: value < bound,
    }
    return all(checks[key](Decimal(repr(bound))) for key, bound in limits.items())


def check(limits: dict[str, Any], tokenizer: Tokenizer) -> None:
    """No number outside is accepted, and each inside is, as people write it: without zeros at the end, or -0."""
    structure = json_schema({"type": "number", **limits})
    for text in TEXTS:
        if not inside(text, limits):
            assert not accepts(structure, text, tokenizer), (text, limits)
        elif Decimal(text) and not ("." in text and text.endswith("0")):
            assert accepts(structure, text, tokenizer), (text, limits)


@pytest.mark.parametrize(
    "limits",
    [
        {"minimum": 0.1, "maximum": 0.25},
        {"exclusiveMinimum": 0, "maximum": 0.25},
        {"minimum": -1.59, "exclusiveMaximum": -1},
        {"minimum": -2.25, "maximum": 1.25},
        {"maximum": 1.555},
        {"minimum": -0.125},
        {"exclusiveMinimum": 0.5, "exclusiveMaximum": 2},
    ],
)
def test_all_numbers_between_bounds_and_no_others(limits: dict[str, Any], tokenizer: Tokenizer) -> None:
    check(limits, tokenizer)


@given(
    low=st.integers(-250, 250),
    width=st.integers(1, 300),
    digits=st.sampled_from((0, 1, 2)),
    open_low=st.booleans(),
    open_high=st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_random_bounds(
    tokenizer: Tokenizer, low: int, width: int, digits: int, open_low: bool, open_high: bool
) -> None:
    scale = 10**digits
    bounds = (low / scale, (low + width) / scale)
    names = ("exclusiveMinimum" if open_low else "minimum", "exclusiveMaximum" if open_high else "maximum")
    check(dict(zip(names, bounds, strict=True)), tokenizer)


def test_bounds_that_are_read_rightly_stay() -> None:
    for limits in ({}, {"minimum": 0, "maximum": 1}, {"minimum": 0.25}, {"exclusiveMinimum": 0}, {"maximum": -0.25}):
        assert bounded(limits) == limits


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("^b$", ("b",)),
        ("^(ba|b|é)$", ("é", "b", "ba")),
        ('^"?$', None),  # the empty name is not listed
        ("^[a-z]$", None),
        ("b", None),
        ("^b|c$", None),
        ("^x{1,9}$", None),
    ],
)
def test_patterns_of_listed_names(pattern: str, found: tuple[str, ...] | None) -> None:
    assert names_matching(pattern, ("é", "b", "c", "ba", '"', "xx")) == found
