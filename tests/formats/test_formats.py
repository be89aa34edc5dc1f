"""Block formats: sizes, decoding, unpacking and byte order, against the gguf package."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from llamaq.errors import ModelError
from llamaq.formats import (
    BLOCKS,
    FORMATS,
    Format,
    byteswap,
    can_decode,
    can_unpack,
    decode,
    format_by_name,
    unpack,
)

LEGACY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
KERNEL_FORMATS = [*LEGACY, "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
                  "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0",
                  "MXFP4", "NVFP4"]  # fmt: skip


def oracle(fmt: Format, data: np.ndarray) -> np.ndarray:
    """gguf's decoding; NotImplementedError or ValueError where the package has none."""
    with np.errstate(all="ignore"):
        return dequantize(data, GGMLQuantizationType(fmt.id)).reshape(*data.shape[:-1], -1)


def in_oracle(fmt: Format) -> bool:
    try:
        oracle(fmt, np.zeros((1, fmt.block_bytes), np.uint8))
    except (NotImplementedError, ValueError):
        return False
    return True


DECODABLE = [fmt for fmt in FORMATS.values() if can_decode(fmt)]
IN_ORACLE = [fmt for fmt in FORMATS.values() if in_oracle(fmt)]


def name_of(fmt: Format) -> str:
    return fmt.name


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal as bit patterns; any NaN equals any other."""
    return np.array_equal(np.isnan(a), np.isnan(b)) and np.array_equal(
        a.view(np.uint32)[~np.isnan(a)], np.ascontiguousarray(b).view(np.uint32)[~np.isnan(b)]
    )


# These tests compare sizes.


def test_sizes_are_those_of_gguf() -> None:
    sizes = {kind.value: (kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}
    # The package counts four bytes for each of Q8_1's two scales; in ggml they are halves.
    sizes[9] = ("Q8_1", 32, 36)
    ours = {id: (fmt.name, fmt.block, fmt.block_bytes) for id, fmt in FORMATS.items()}
    assert sizes.items() <= ours.items()
    assert {ours[id] for id in ours.keys() - sizes.keys()} <= {
        ("NVFP4", 64, 36),
        ("Q1_0", 128, 18),
        ("Q2_0", 64, 18),
    }


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=name_of)
def test_block_layout_fills_the_block(fmt: Format) -> None:
    assert BLOCKS[fmt.name].itemsize == fmt.block_bytes


def test_row_bytes() -> None:
    q4_k = format_by_name("q4_k")
    assert (q4_k.id, q4_k.row_bytes(0), q4_k.row_bytes(1024)) == (12, 0, 576)
    with pytest.raises(ValueError, match="Q4_K: a row must be a multiple of 256 elements, but has 288"):
        q4_k.row_bytes(288)
    with pytest.raises(ValueError, match="-256"):
        q4_k.row_bytes(-256)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown format 'Q4_2'; expected one of F32, F16, Q4_0"):
        format_by_name("Q4_2")


# These tests compare with the gguf package.


def test_every_format_of_the_gguf_package_is_decoded() -> None:
    assert [fmt.name for fmt in IN_ORACLE if not can_decode(fmt)] == []
    assert {fmt.name for fmt in DECODABLE} - {fmt.name for fmt in IN_ORACLE} <= {"Q1_0", "Q2_0", "NVFP4"}


@pytest.mark.parametrize("fmt", IN_ORACLE, ids=name_of)
def test_random_bytes_decode_as_in_gguf(fmt: Format) -> None:
    rng = np.random.default_rng(fmt.id)
    data = rng.integers(0, 256, (3, 700 * fmt.block_bytes), dtype=np.uint8)
    values = decode(fmt, data)
    assert values.dtype == np.float32
    assert same_bits(values, oracle(fmt, data))


def test_every_half_and_every_bfloat16() -> None:
    data = np.arange(65536, dtype="<u2").view(np.uint8)
    for name in ("F16", "BF16"):
        assert same_bits(decode(format_by_name(name), data), oracle(format_by_name(name), data))


def test_real_tensors_decode_as_in_gguf(shared: Callable[[str], Path]) -> None:
    seen = set()
    for path in sorted(shared("models").glob("*.gguf")):
        for tensor in gguf.GGUFReader(path).tensors:
            fmt = FORMATS[int(tensor.tensor_type)]
            data = np.ascontiguousarray(tensor.data).view(np.uint8)
            values = decode(fmt, data)
            assert values.size == tensor.n_elements
            assert same_bits(values, oracle(fmt, data)), (path.name, tensor.name)
            seen.add(fmt.name)
    assert seen >= {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q6_K"}


# These tests are about unpacked integers and scales.


@pytest.mark.parametrize("name", KERNEL_FORMATS)
def test_unpacked_fields_give_the_weights(name: str) -> None:
    fmt = format_by_name(name)
    data = np.random.default_rng(fmt.id).integers(0, 256, (2, 5, 4 * fmt.row_bytes(256)), dtype=np.uint8)
    u = unpack(fmt, data)
    assert (u.q.shape, u.q.dtype) == ((2, 5, 1024), np.int8)
    assert (u.scale.shape, u.scale.dtype) == ((2, 5, 32), np.float32)
    assert (u.minimum is not None) == (name in {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"})
    assert (u.sub_scale is not None) == (name in {"Q2_K", "Q3_K", "Q6_K", "IQ1_M", "IQ2_XS", "IQ2_S", "NVFP4"})
    assert (u.sub_min is not None) == (name == "Q2_K")
    for factors in (u.sub_scale, u.sub_min):
        assert factors is None or factors.shape == (2, 5, u.q.shape[-1] // 16)
        assert factors is None or factors.dtype == (np.float32 if name == "NVFP4" else np.int8)
    with np.errstate(all="ignore"):
        assert same_bits(u.weights(), decode(fmt, data))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("Q4_0", -8, 7),
        ("Q4_1", 0, 15),
        ("Q5_0", -16, 15),
        ("Q5_1", 0, 31),
        ("Q8_0", -128, 127),
        ("Q2_K", 0, 3),
        ("Q3_K", -4, 3),
        ("Q4_K", 0, 15),
        ("Q5_K", 0, 31),
        ("Q6_K", -32, 31),
        ("IQ4_NL", -127, 113),
        ("IQ4_XS", -127, 113),
        ("IQ1_S", -9, 9),
        ("IQ1_M", -9, 9),
        ("IQ2_XXS", -43, 43),
        ("IQ2_XS", -43, 43),
        ("IQ2_S", -43, 43),
        ("IQ3_XXS", -62, 62),
        ("IQ3_S", -15, 15),
        ("TQ1_0", -1, 1),
        ("TQ2_0", -1, 2),
        ("Q1_0", -1, 1),
        ("Q2_0", -1, 2),
        ("MXFP4", -12, 12),
        ("NVFP4", -12, 12),
    ],
)
def test_unpacked_integers_have_their_zero_point_subtracted(name: str, low: int, high: int) -> None:
    fmt = format_by_name(name)
    data = np.random.default_rng(0).integers(0, 256, 200 * fmt.block_bytes, dtype=np.uint8)
    q = unpack(fmt, data).q
    assert (q.min(), q.max()) == (low, high)


# These tests are about byte order.


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=name_of)
def test_byteswap_there_and_back(fmt: Format) -> None:
    data = np.random.default_rng(fmt.id).integers(0, 256, (2, 3 * fmt.block_bytes), dtype=np.uint8)
    big = byteswap(fmt, data)
    assert (big.shape, big.dtype) == (data.shape, np.uint8)
    assert np.array_equal(byteswap(fmt, big), data)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("F32", [(0, 4)]),
        ("BF16", [(0, 2)]),
        ("I8", []),
        ("I64", [(0, 8)]),
        ("Q4_0", [(0, 2)]),
        ("Q5_1", [(0, 2), (2, 2), (4, 4)]),
        ("Q8_0", [(0, 2)]),
        ("Q2_K", [(80, 2), (82, 2)]),
        ("Q3_K", [(108, 2)]),
        ("Q4_K", [(0, 2), (2, 2)]),
        ("Q6_K", [(208, 2)]),
        ("Q8_K", [(0, 4)] + [(260 + 2 * i, 2) for i in range(16)]),
        ("IQ4_XS", [(0, 2), (2, 2)]),
        ("IQ2_XXS", [(0, 2)] + [(6 + 8 * i, 4) for i in range(8)]),
        ("IQ1_M", [(48 + 2 * i, 2) for i in range(4)]),
        ("MXFP4", []),
    ],
)
def test_byteswap_turns_numbers_and_leaves_bytes(name: str, numbers: list[tuple[int, int]]) -> None:
    fmt = format_by_name(name)
    data = np.random.default_rng(5).integers(0, 256, 2 * fmt.block_bytes, dtype=np.uint8)
    expected = data.copy()
    for start in (0, fmt.block_bytes):
        for offset, size in numbers:
            at = slice(start + offset, start + offset + size)
            expected[at] = data[at][::-1]
    assert np.array_equal(byteswap(fmt, data), expected)


# These tests are about shapes and errors.


@pytest.mark.parametrize("fmt", DECODABLE, ids=name_of)
def test_any_leading_shape(fmt: Format) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, (2, 3, 4 * fmt.block_bytes), dtype=np.uint8)
    data.flags.writeable = False
    values = decode(fmt, data)
    assert values.shape == (2, 3, 4 * fmt.block)
    assert same_bits(decode(fmt, data[1, 2]), values[1, 2])
    assert same_bits(decode(fmt, data[:, ::2]), np.ascontiguousarray(values[:, ::2]))
    assert decode(fmt, data[:0]).shape == (0, 3, 4 * fmt.block)
    assert decode(fmt, data[..., :0]).shape == (2, 3, 0)


def test_wrong_data_is_refused() -> None:
    q4_0 = format_by_name("Q4_0")
    for function in (decode, unpack, byteswap):
        with pytest.raises(ValueError, match=r"Q4_0: expected rows of whole blocks of 18 bytes, .* \(2, 35\)"):
            function(q4_0, np.zeros((2, 35), np.uint8))
        with pytest.raises(TypeError, match="expected bytes as a uint8 array, got int8"):
            function(q4_0, np.zeros(36, np.int8))
        with pytest.raises(ValueError, match="whole blocks"):
            function(q4_0, np.zeros((), np.uint8))


def test_formats_without_decoder_are_named() -> None:
    for name in ("Q8_1", "Q8_K", "I32", "F64"):
        with pytest.raises(ModelError, match=f"{name} cannot be decoded; expected one of Q4_0, .*MXFP4"):
            decode(format_by_name(name), np.zeros(format_by_name(name).block_bytes, np.uint8))
    assert [fmt.name for fmt in FORMATS.values() if can_unpack(fmt)] == sorted(
        KERNEL_FORMATS, key=lambda name: format_by_name(name).id
    )
    with pytest.raises(ValueError, match="F16 has no integer kernel"):
        unpack(format_by_name("F16"), np.zeros(2, np.uint8))


# This test follows the codebooks into C++.


def test_grids_header_holds_the_grids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    script, target = root / "tools" / "make_grids_header.py", tmp_path / "made" / "iq_grids.inc"
    monkeypatch.setattr(sys, "argv", [str(script), str(root / "src" / "llamaq" / "formats" / "grids.py"), str(target)])
    for before in (None, "an older text"):
        if before:
            target.write_text(before)
        runpy.run_path(str(script), run_name="__main__")
        text = target.read_text()
    os.utime(target, (0, 0))
    runpy.run_path(str(script), run_name="__main__")
    assert target.stat().st_mtime == 0  # a newer file would compile every kernel anew
    for name, rows, dims in (("IQ2XXS", 256, 8), ("IQ2S", 1024, 8), ("IQ3S", 512, 4), ("IQ1S", 2048, 8)):
        assert f"static const int8_t k{name}[{rows}][{dims}] = {{" in text
    oracle_grid = gguf.quants.IQ3_XXS
    oracle_grid.init_grid()
    grid = np.asarray(oracle_grid.grid)
    table = text.split("kIQ3XXS[256][4] = {")[1].split("};")[0]
    expected = ",\n".join(f"{{{', '.join(str(int(x)) for x in row)}}}" for row in grid.reshape(256, 4))
    assert table.replace(" ", "").strip() == expected.replace(" ", "") + ","
