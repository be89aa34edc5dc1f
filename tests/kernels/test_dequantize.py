"""The C++ dequantizers equal the NumPy specification bit for bit, on every level of this CPU."""

from __future__ import annotations

import numpy as np
import pytest

from llamaq import _core
from llamaq.formats import FORMATS, Format, can_decode, decode

DECODABLE = [fmt for fmt in FORMATS.values() if can_decode(fmt)]


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("fmt", DECODABLE, ids=lambda fmt: fmt.name)
def test_random_bytes(isa: str, fmt: Format) -> None:
    data = np.random.default_rng(fmt.id).integers(0, 256, 1000 * fmt.block_bytes, dtype=np.uint8)
    check(isa, fmt, data)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("fmt", DECODABLE, ids=lambda fmt: fmt.name)
def test_one_block_and_none(isa: str, fmt: Format) -> None:
    data = np.random.default_rng(fmt.id).integers(0, 256, fmt.block_bytes, dtype=np.uint8)
    check(isa, fmt, data)
    check(isa, fmt, data[:0])


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("fmt", [f for f in DECODABLE if f.name in {"F16", "BF16"}], ids=lambda fmt: fmt.name)
def test_every_sixteen_bit_float(isa: str, fmt: Format) -> None:
    check(isa, fmt, np.arange(65536, dtype="<u2").view(np.uint8))


def check(isa: str, fmt: Format, data: np.ndarray) -> None:
    expected = decode(fmt, data)
    values = _core.dequantize(isa, fmt.id, data)
    assert (values.shape, values.dtype) == (expected.shape, np.float32)
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(values), nan)
    assert np.array_equal(values.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])
