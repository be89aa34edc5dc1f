"""Kernels: every level equals the NumPy specification bit for bit, for every format and shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_inputs import FLOATS, QUANTIZED, activations, random_rows
from llamaq import _core, formats
from llamaq.plan import arithmetic
from llamaq.plan.activations import ACTIVATIONS, GATED, softcap
from llamaq.plan.ops import product

ISAS = _core.isas()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_matmul_equals_the_specification(isa: str, name: str) -> None:
    rng = np.random.default_rng(7)
    fmt = formats.format_by_name(name)
    step = max(fmt.block, 8)
    for m, rows, blocks in [(1, 16, 1), (2, 1, 2), (3, 17, 1), (4, 33, 2), (5, 70, 1), (9, 48, 3)]:
        cols = blocks * step
        w, x = random_rows(rng, name, rows, cols), activations(rng, m, cols)
        weight = formats.unpack(fmt, w) if name in QUANTIZED else formats.decode(fmt, w)
        want = product.linear(weight, x)
        assert np.isfinite(want).all()
        np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x, 16), want)


@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_levels_agree_on_many_rows_and_long_columns(name: str) -> None:
    """Groups of 16 rows and the rest of one, with and without panels, a slab and its rest, columns that fill more than
    one panel, a chunk that ends early."""
    rng = np.random.default_rng(11)
    fmt = formats.format_by_name(name)
    cols = -(-2100 // max(fmt.block, 32)) * max(fmt.block, 32)
    w = random_rows(rng, name, 37, cols)
    for m in (12, 16, 17, 20, 31, 33, 64, 81, 130):
        x = activations(rng, m, cols)
        want = _core.matmul("scalar", fmt.id, w, x, 48)
        for isa in ISAS[1:]:
            np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x, 48), want)
        alone = np.concatenate([_core.matmul("scalar", fmt.id, w, row[None], 48) for row in x])
        np.testing.assert_array_equal(alone, want)


@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
@settings(max_examples=25)
@given(m=st.integers(1, 9), rows=st.integers(1, 70), blocks=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_levels_agree_on_every_shape(name: str, m: int, rows: int, blocks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fmt = formats.format_by_name(name)
    cols = blocks * (fmt.block if fmt.block > 1 else int(rng.integers(1, 40)))  # rows of floats need not fill a vector
    w, x = random_rows(rng, name, rows, cols), activations(rng, m, cols)
    want = _core.matmul("scalar", fmt.id, w, x, 80)
    for isa in ISAS[1:]:
        np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x, 16), want)


@pytest.mark.parametrize("name", QUANTIZED + FLOATS)
def test_levels_agree_on_every_bit_pattern(name: str) -> None:
    """Random bytes make infinite, subnormal and NaN scales; levels differ in nothing but a NaN's payload."""
    rng = np.random.default_rng(8)
    fmt = formats.format_by_name(name)
    cols = max(fmt.block, 8) * 2
    w = rng.integers(0, 256, (31, fmt.row_bytes(cols)), dtype=np.uint8)
    x = activations(rng, 7, cols)
    results = [_core.matmul(isa, fmt.id, w, x) for isa in ISAS]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", ["Q4_0", "Q6_K", "F16", "IQ2_S", "NVFP4"])
@pytest.mark.parametrize("isa", ISAS)
def test_an_output_depends_on_its_own_rows_alone(isa: str, name: str) -> None:
    rng = np.random.default_rng(9)
    fmt = formats.format_by_name(name)
    w, x = random_rows(rng, name, 100, 512), activations(rng, 6, 512)
    whole = _core.matmul(isa, fmt.id, w, x, 112)
    for i in range(len(x)):
        np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w, x[i : i + 1], 16)[0], whole[i])
    np.testing.assert_array_equal(_core.matmul(isa, fmt.id, w[16:49], x, 32), whole[:, 16:49])


@pytest.mark.parametrize("isa", ISAS)
def test_quantize_rows(isa: str) -> None:
    rng = np.random.default_rng(10)
    x = activations(rng, 50, 256)
    x[3, 5], x[4, 40], x[5, 255] = np.inf, np.nan, -np.inf
    x[6, :32] = np.float32(1e-38)
    x[7, :32] = np.finfo(np.float32).max
    q, d, d_sum, sums = _core.quantize_rows(isa, x)
    want_q, want_d = arithmetic.quantize_rows(x)
    np.testing.assert_array_equal(q, want_q)
    np.testing.assert_array_equal(d, want_d)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(d_sum, want_d * want_q.sum(-1).astype(np.float32))
    by_four = want_q.astype(np.int32).reshape(50, 8, 2, 4, 2, 2)  # row, block, half, word, pair, one of two
    pairs = by_four.sum((3, 5))
    halves = pairs.sum(-1)
    whole = halves.sum(-1, keepdims=True)
    want = np.concatenate([-8 * whole, -16 * whole, -32 * halves, pairs.reshape(50, 8, 4)], -1)
    np.testing.assert_array_equal(sums, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 8, 15, 16, 17, 64, 100, 4096])
def test_rows(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x, w, b = rng.standard_normal((3, n)).astype(np.float32) * 3
    np.testing.assert_array_equal(_core.rms_norm(isa, x, w, 1e-5), arithmetic.rms_norm(x[None], w, 1e-5)[0])
    np.testing.assert_array_equal(_core.layer_norm(isa, x, w, b, 1e-5), arithmetic.layer_norm(x[None], w, b, 1e-5)[0])
    np.testing.assert_array_equal(_core.softcap(isa, x, 2.5), softcap(x, 2.5))
    with np.errstate(all="ignore"):
        for scale in (1, 40):
            gate = (x * scale).astype(np.float32)
            for act, gated in GATED.items():
                np.testing.assert_array_equal(_core.glu(isa, act, gate, w), gated(gate, w))
            for act, activation in ACTIVATIONS.items():
                np.testing.assert_array_equal(_core.activate(isa, act, gate), activation(gate))
        for bias in (None, gate):
            want = arithmetic.layer_norm(x[None], w, bias, 1e-5)[0]
            np.testing.assert_array_equal(_core.layer_norm(isa, x, w, bias, 1e-5), want)


@pytest.mark.parametrize("isa", ISAS)
def test_exponential_at_its_edges(isa: str) -> None:
    """silu of these passes through every branch of exp: overflow, underflow, infinities, NaN, halves."""
    edges = [0.0, -0.0, 88.72, 88.73, -87.33, -87.34, 1e30, -1e30, np.inf, -np.inf, np.nan, 0.34657359, 1e-38]
    gate = np.array(edges * 2, np.float32)
    with np.errstate(all="ignore"):
        for act, gated in GATED.items():
            for other in (np.ones_like(gate), gate):
                np.testing.assert_array_equal(_core.glu(isa, act, gate, other), gated(gate, other))
    np.testing.assert_array_equal(_core.softcap(isa, gate, 1.0), softcap(gate, 1.0))


def test_what_the_kernels_refuse() -> None:
    from llamaq.errors import ISAError, LlamaqError

    x, w = np.zeros((1, 32), np.float32), np.zeros((1, 18), np.uint8)
    with pytest.raises(ISAError, match="avx2048"):
        _core.matmul("avx2048", 2, w, x)
    with pytest.raises(LlamaqError, match="no decoder"):
        _core.matmul("scalar", 5, w, x)
    with pytest.raises(LlamaqError, match="multiple of 32"):
        _core.matmul("scalar", 2, w, x[:, :31].copy())
    with pytest.raises(LlamaqError, match="multiple of 32"):
        _core.packed_bytes(2, 4, 33)
