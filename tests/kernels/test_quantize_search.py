"""The searches: every SIMD level and thread count gives the same bytes, which are no worse than plain rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq import _core
from llamaq.formats import can_encode, decode, encode, format_by_name, unpack
from llamaq.formats.grids import GRIDS as GRID_TABLES

SEARCHED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
SEARCHED += ["TQ1_0", "TQ2_0", "MXFP4"]
GRIDS = {"IQ1_S": 0.26, "IQ1_M": 0.21, "IQ2_XXS": 0.115, "IQ2_XS": 0.085, "IQ2_S": 0.07}
GRIDS |= {"IQ3_XXS": 0.035, "IQ3_S": 0.019}
"""Formats of codebook vectors, and a bound on the share of a Gaussian row's energy that is lost."""
FLOATS = ["F32", "F16", "BF16"]
F32 = format_by_name("F32")
TEAMS = {threads: _core.ThreadTeam(threads, False) for threads in (1, 3)}


def search(name: str, x: Any, weights: Any = None, isa: str = "", threads: int = 1) -> Any:
    """Rows of float32 as rows of blocks."""
    format = format_by_name(name)
    out = np.full((len(x), format.row_bytes(x.shape[1])), 0xA5, np.uint8)
    bad = _core.quantize(TEAMS[threads], F32.id, format.id, x.view(np.uint8), x.shape[1], weights, out, isa)
    assert bad is None
    return out


def rows(kind: str, count: int, cols: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, (count, cols)) if kind == "heavy" else rng.standard_normal((count, cols))
    return (0.02 * x).astype(np.float32)


def error(name: str, data: Any, x: Any, weights: Any = 1.0) -> float:
    return float((weights * (decode(format_by_name(name), data).astype(np.float64) - x) ** 2).sum())


def weights_of(cols: int) -> Any:
    return np.random.default_rng(5).lognormal(0, 1.5, cols).astype(np.float32)


@pytest.mark.parametrize("name", [*SEARCHED, *GRIDS, *FLOATS])
@pytest.mark.parametrize("weighted", [False, True])
def test_levels_and_threads_give_the_same_bytes(name: str, weighted: bool) -> None:
    """This holds also where rows do not fill the sixteen lanes."""
    x = rows("heavy", 21 if name in GRIDS else 67, 768)
    x[3] = 0
    x[4] *= 1e-6
    x[5] *= 1e6
    weights = weights_of(768) if weighted else None
    expected = search(name, x, weights, "scalar")
    for isa in _core.isas():
        for threads in TEAMS:
            np.testing.assert_array_equal(search(name, x, weights, isa, threads), expected)
    for start, end in ((0, 1), (1, 18), (18, len(x))):
        np.testing.assert_array_equal(search(name, x[start:end].copy(), weights), expected[start:end])


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("kind", ["gauss", "heavy"])
def test_a_search_beats_rounding_to_nearest(name: str, kind: str) -> None:
    x, weights = rows(kind, 32, 512), weights_of(512)
    rounded = encode(format_by_name(name), x)
    assert error(name, search(name, x), x) < 0.98 * error(name, rounded, x)
    assert error(name, search(name, x, weights), x, weights) < 0.98 * error(name, rounded, x, weights)


@pytest.mark.parametrize("name", GRIDS)
def test_codebook_vectors_are_near(name: str) -> None:
    x = rows("gauss", 32, 512)
    assert error(name, search(name, x), x) < GRIDS[name] * float((x.astype(np.float64) ** 2).sum())


def brute_force(x: Any, weights: Any, points: Any) -> Any:
    """The least weighted error of vectors (n, dims) among points (p, dims)."""
    return (weights[:, None] * (x[:, None] - points[None]) ** 2).sum(axis=-1).min(axis=1)


@pytest.mark.parametrize("name", ["IQ2_XXS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
def test_no_other_vector_of_the_codebook_is_nearer(name: str) -> None:
    """The scales are those that were chosen; signs are taken from the result, as the search chose them first."""
    x, weights = rows("heavy", 16, 256), weights_of(256)
    unpacked = unpack(format_by_name(name), search(name, x, weights / weights.max()))
    decoded, levels = unpacked.weights().astype(np.float64), np.abs(unpacked.q.astype(np.float64))
    points = np.array(list(GRID_TABLES[name].rows()), np.float64)
    dims = points.shape[1]
    scale = np.abs(decoded) / levels
    x_signed = (x * np.sign(unpacked.q)).reshape(-1, dims)
    each = np.broadcast_to(weights, x.shape).reshape(-1, dims).astype(np.float64)
    found = (each * (np.abs(decoded).reshape(-1, dims) - x_signed) ** 2).sum(axis=-1)
    scales = scale.reshape(-1, dims)[:, :1]
    np.testing.assert_allclose(
        found / scales[:, 0] ** 2, brute_force(x_signed / scales, each, points), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize("name", [*SEARCHED, *GRIDS])
def test_weights_move_the_error_to_where_it_counts_less(name: str) -> None:
    x, weights = rows("gauss", 32, 512), weights_of(512)
    assert error(name, search(name, x, weights), x, weights) < error(name, search(name, x), x, weights)


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_those_of_the_specification(name: str) -> None:
    x = np.concatenate([rows("heavy", 4, 40), np.float32([[1e-7, 65504, 1e-30, 3.3e38 / 2**80] * 10])])
    np.testing.assert_array_equal(search(name, x), encode(format_by_name(name), x))


@pytest.mark.parametrize("name", SEARCHED)
def test_what_a_format_holds_exactly_is_kept(name: str) -> None:
    """Weights on a grid that a format has come back as they were: zeros, and ternary ones."""
    signs = np.random.default_rng(1).integers(-1, 2, (16, 256)).astype(np.float32)
    for x in (np.zeros((16, 256), np.float32), signs * np.float32(0.25)):
        if x.any() and name in {"IQ4_NL", "IQ4_XS"}:
            continue  # their codebooks have no zero
        np.testing.assert_allclose(decode(format_by_name(name), search(name, x)), x, atol=2e-3)


@settings(max_examples=40)
@given(
    name=st.sampled_from([*SEARCHED, *GRIDS]),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-30, 1e-9, 1e-6, 1.0, 1e4, 1e12]),
    zeros=st.floats(0, 1),
    offset=st.sampled_from([0.0, 1.0, -3.0]),
)
def test_any_finite_weights_make_finite_blocks(name: str, seed: int, scale: float, zeros: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, 256)) + offset) * (rng.random((3, 256)) >= zeros) * scale
    x = x.astype(np.float32)
    weights = np.maximum(rng.lognormal(0, 4, 256), 1e-8).astype(np.float32)
    data = search(name, x, weights / weights.max())
    assert np.isfinite(decode(format_by_name(name), data)).all()
    for isa in _core.isas():
        np.testing.assert_array_equal(search(name, x, weights / weights.max(), isa), data)


def test_every_searched_format_has_a_plain_encoder_to_compare_with() -> None:
    assert all(can_encode(format_by_name(name)) for name in SEARCHED)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf, 2.0**50])
def test_the_first_bad_row_is_told(value: float) -> None:
    x = rows("gauss", 600, 512)
    x[500, 511] = x[599, 0] = value
    out = np.empty((600, 18 * 16), np.uint8)
    for team in TEAMS.values():
        assert _core.quantize(team, 0, 2, x.view(np.uint8), 512, None, out) == 500
