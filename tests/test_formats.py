"""Block formats: sizes, decoding, unpacking and byte order, by hand and against the gguf package."""

from __future__ import annotations

import runpy
import struct
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
    Unpacked,
    byteswap,
    can_decode,
    can_unpack,
    decode,
    format_by_name,
    unpack,
)

LEGACY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
KERNEL_FORMATS = [*LEGACY, "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]


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


def block(fmt: str, layout: str, *fields: int | float | bytes) -> np.ndarray:
    data = np.frombuffer(struct.pack("<" + layout, *fields), np.uint8)
    assert data.size == format_by_name(fmt).block_bytes
    return data


# Sizes


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


# Blocks written by hand, values from the layouts


def test_floats_by_hand() -> None:
    values = [0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-24]
    for name, code in (("F32", "f"), ("F16", "e")):
        data = np.frombuffer(struct.pack(f"<6{code}", *values), np.uint8)
        assert same_bits(decode(format_by_name(name), data), np.array(values, np.float32))
    bf16 = np.frombuffer(struct.pack("<4H", 0x3F80, 0xC020, 0x0001, 0x7F80), np.uint8)
    assert decode(format_by_name("BF16"), bf16).tolist() == [1.0, -2.5, 2.0**-133, np.inf]


def test_legacy_by_hand() -> None:
    low, high = list(range(16)), list(range(15, -1, -1))
    qs = bytes(a | b << 4 for a, b in zip(low, high, strict=True))
    fifth = 0x8001_4003  # elements 0, 1, 14, 16 and 31
    four = low + high
    five = [q + 16 * (fifth >> i & 1) for i, q in enumerate(four)]
    cases = {
        "Q4_0": (block("Q4_0", "e16s", 0.5, qs), [0.5 * (q - 8) for q in four]),
        "Q4_1": (block("Q4_1", "ee16s", 0.5, -3, qs), [0.5 * q - 3 for q in four]),
        "Q5_0": (block("Q5_0", "eI16s", -0.25, fifth, qs), [-0.25 * (q - 16) for q in five]),
        "Q5_1": (block("Q5_1", "eeI16s", 0.25, 2, fifth, qs), [0.25 * q + 2 for q in five]),
        "Q8_0": (block("Q8_0", "e32b", 2, *range(-128, 128, 8)), [2 * q for q in range(-128, 128, 8)]),
    }
    for name, (data, expected) in cases.items():
        assert decode(format_by_name(name), data).tolist() == expected, name


def test_q4_k_and_q5_k_by_hand() -> None:
    # Sub-block 1: scale 9, minimum 33. Sub-block 5: scale 0b10_0101, minimum 0b01_1010.
    scales = bytearray(12)
    scales[1], scales[5] = 9 | 0b10 << 6, 33 | 0b01 << 6
    scales[9] = 0b0101 | 0b1010 << 4
    qs = bytearray(128)
    qs[3], qs[64 + 31] = 7 << 4, 12 << 4  # elements 32 + 3 and 160 + 31
    q4 = decode(format_by_name("Q4_K"), block("Q4_K", "ee12s128s", 0.5, 0.25, bytes(scales), bytes(qs)))
    expected = np.zeros(256, np.float32)
    expected[32:64], expected[160:192] = -0.25 * 33, -0.25 * 26
    expected[35] += 0.5 * 9 * 7
    expected[191] += 0.5 * 37 * 12
    assert np.array_equal(q4, expected)
    qh = bytearray(32)
    qh[3], qh[30] = 1 << 1, 1 << 5  # a fifth bit for elements 35 and 190
    data = block("Q5_K", "ee12s32s128s", 0.5, 0.25, bytes(scales), bytes(qh), bytes(qs))
    expected[35] += 0.5 * 9 * 16
    expected[190] += 0.5 * 37 * 16
    assert np.array_equal(decode(format_by_name("Q5_K"), data), expected)


def test_two_three_and_six_bits_by_hand() -> None:
    # Element 128 + 32 + 17 = 177: second half, second pair of bits, sub-block 11 of 16.
    scales, qs = bytearray(16), bytearray(64)
    scales[11], qs[32 + 17] = 5 | 3 << 4, 2 << 2
    q2 = decode(format_by_name("Q2_K"), block("Q2_K", "16s64see", bytes(scales), bytes(qs), 0.5, 2))
    expected = np.zeros(256, np.float32)
    expected[176:192] = -2 * 3
    expected[177] += 0.5 * 5 * 2
    assert np.array_equal(q2, expected)

    hmask, scales = bytearray(32), bytearray(12)
    scales[3], scales[8 + 3] = 9 << 4, 0b11 << 4  # sub-block 11: 9 + 16 * 3 - 32 = 25; sub-block 3: -32
    hmask[17] = 1 << 5
    q3 = decode(
        format_by_name("Q3_K"), block("Q3_K", "32s64s12se", bytes(hmask), bytes(qs), bytes(scales), 0.5)
    )
    expected = np.full(256, 0.5 * -32 * -4, np.float32)
    expected[176:192] = 0.5 * 25 * -4
    expected[177] = 0.5 * 25 * 2
    assert np.array_equal(q3, expected)

    ql, qh, sc = bytearray(128), bytearray(64), [0] * 16
    ql[64 + 32 + 17], qh[32 + 17], sc[11] = 9, 2 << 2, -7
    q6 = decode(format_by_name("Q6_K"), block("Q6_K", "128s64s16be", bytes(ql), bytes(qh), *sc, 0.5))
    expected = np.zeros(256, np.float32)
    expected[176:192] = 0.5 * -7 * -32
    expected[177] = 0.5 * -7 * (9 + 32 - 32)
    assert np.array_equal(q6, expected)


def test_codebooks_by_hand() -> None:
    nl = block("IQ4_NL", "e16s", 2, bytes([0x0F] + [0x88] * 15))
    values = decode(format_by_name("IQ4_NL"), nl)
    assert (values[0], values[16], set(values[1:16])) == (2 * 113, 2 * -127, {2.0})
    scales_h, scales_l = 0b10 << 6, bytes([0, 5 << 4, 0, 0])  # sub-block 3: 5 + 32 - 32, others -32
    xs = decode(
        format_by_name("IQ4_XS"), block("IQ4_XS", "eH4s128s", 0.5, scales_h, scales_l, bytes([0xF8] * 128))
    )
    expected = np.tile(np.repeat(np.array([1, 113], np.float32), 16), 8) * np.float32(0.5 * -32)
    expected[96:128] *= -5 / 32
    assert np.array_equal(xs, expected)


def test_small_formats_by_hand() -> None:
    q1 = decode(format_by_name("Q1_0"), block("Q1_0", "e16s", 1.5, bytes([0b0000_0110] + [0] * 15)))
    assert np.flatnonzero(q1 == 1.5).tolist() == [1, 2]
    assert np.count_nonzero(q1 == -1.5) == 126
    q2 = decode(format_by_name("Q2_0"), block("Q2_0", "e16s", 1.5, bytes([0b11_10_01_00] * 16)))
    assert q2.tolist() == [-1.5, 0, 1.5, 3] * 16
    tq2 = decode(format_by_name("TQ2_0"), block("TQ2_0", "64se", bytes([0b11_10_01_00] * 64), 2))
    assert tq2.tolist() == ([-2] * 32 + [0] * 32 + [2] * 32 + [4] * 32) * 2
    # 0.21021 in base 3 is 196 / 243, so the byte is ceil(196 * 256 / 243) = 207.
    tq1 = decode(format_by_name("TQ1_0"), block("TQ1_0", "52se", bytes([207] * 52), 3))
    digits = np.array([2, 1, 0, 2, 1])
    runs = [digits.repeat(32), digits.repeat(16), digits[:4].repeat(4)]
    assert np.array_equal(tq1, 3 * (np.concatenate(runs) - 1))
    levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    mx = decode(
        format_by_name("MXFP4"), block("MXFP4", "B16s", 130, bytes(i | (15 - i) << 4 for i in range(16)))
    )
    signed = levels + [-x for x in levels]
    assert mx.tolist() == [8 * x for x in signed + signed[::-1]]
    # Scales 1.5, the least normal number, a subnormal one and E4M3's NaN, which counts as 0.
    nv = decode(
        format_by_name("NVFP4"), block("NVFP4", "4s32s", bytes([0x3C, 0x08, 0x03, 0x7F]), bytes([0x21] * 32))
    )
    assert nv[::8].tolist() == [0.75, 1.5, 2.0**-7, 2.0**-6, 1.5 * 2.0**-9, 3 * 2.0**-9, 0, 0]


# Against the gguf package


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


# Unpacked integers and scales


@pytest.mark.parametrize("name", KERNEL_FORMATS)
def test_unpacked_fields_give_the_weights(name: str) -> None:
    fmt = format_by_name(name)
    data = np.random.default_rng(fmt.id).integers(0, 256, (2, 5, 4 * fmt.row_bytes(256)), dtype=np.uint8)
    u = unpack(fmt, data)
    assert (u.q.shape, u.q.dtype) == ((2, 5, 1024), np.int8)
    assert (u.scale.shape, u.scale.dtype) == ((2, 5, 32), np.float32)
    assert (u.minimum is not None) == (name in {"Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"})
    assert (u.sub_scale is not None) == (name in {"Q2_K", "Q3_K", "Q6_K"})
    assert (u.sub_min is not None) == (name == "Q2_K")
    for integers in (u.sub_scale, u.sub_min):
        assert integers is None or (integers.shape, integers.dtype) == ((2, 5, 64), np.int8)
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
    ],
)
def test_unpacked_integers_have_their_zero_point_subtracted(name: str, low: int, high: int) -> None:
    fmt = format_by_name(name)
    data = np.random.default_rng(0).integers(0, 256, 200 * fmt.block_bytes, dtype=np.uint8)
    q = unpack(fmt, data).q
    assert (q.min(), q.max()) == (low, high)


def test_unpacked_minimums_are_negative_products() -> None:
    scales = bytes([7, 0, 0, 0, 11] + [0] * 7)
    u: Unpacked = unpack(format_by_name("Q4_K"), block("Q4_K", "ee12s128s", 0.5, 2, scales, bytes(128)))
    assert u.scale.tolist() == [3.5] + [0] * 7
    assert u.minimum is not None
    assert u.minimum.tolist() == [-22] + [0] * 7
    data = block("Q2_K", "16s64see", bytes([5 | 3 << 4] * 16), bytes(64), 0.5, 2)
    u = unpack(format_by_name("Q2_K"), data)
    assert u.sub_scale is not None
    assert u.sub_min is not None
    assert u.minimum is not None
    assert (u.scale.tolist(), u.minimum.tolist()) == ([0.5] * 8, [-2] * 8)
    assert (u.sub_scale.tolist(), u.sub_min.tolist()) == ([5] * 16, [3] * 16)


# Byte order


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


# Shapes and errors


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
        with pytest.raises(
            ValueError, match=r"Q4_0: expected rows of whole blocks of 18 bytes, .* \(2, 35\)"
        ):
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


# The codebooks' way into C++


def test_grids_header_holds_the_grids(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    script = root / "tools" / "make_grids_header.py"
    text = runpy.run_path(str(script))["header"](root / "src" / "llamaq" / "formats" / "grids.py")
    for name, rows, dims in (("IQ2XXS", 256, 8), ("IQ2S", 1024, 8), ("IQ3S", 512, 4), ("IQ1S", 2048, 8)):
        assert f"static const int8_t k{name}[{rows}][{dims}] = {{" in text
    oracle_grid = gguf.quants.IQ3_XXS
    oracle_grid.init_grid()
    table = text.split("kIQ3XXS[256][4] = {")[1].split("};")[0]
    expected = ",\n".join(
        f"{{{', '.join(str(int(x)) for x in row)}}}" for row in oracle_grid.grid.reshape(256, 4)
    )
    assert table.replace(" ", "").strip() == expected.replace(" ", "") + ","
