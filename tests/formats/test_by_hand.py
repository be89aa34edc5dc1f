"""Block formats: blocks written by hand, with values worked out from the layouts."""

from __future__ import annotations

import struct

import numpy as np

from llamaq.formats import decode, format_by_name, unpack


def block(fmt: str, layout: str, *fields: int | float | bytes) -> np.ndarray:
    data = np.frombuffer(struct.pack("<" + layout, *fields), np.uint8)
    assert data.size == format_by_name(fmt).block_bytes
    return data


def test_floats_by_hand() -> None:
    values = [0.0, -0.0, 1.0, -2.5, 65504.0, 2.0**-24]
    for name, code in (("F32", "f"), ("F16", "e")):
        data = np.frombuffer(struct.pack(f"<6{code}", *values), np.uint8)
        decoded = decode(format_by_name(name), data)
        assert decoded.tobytes() == np.array(values, np.float32).tobytes()
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
    q3 = decode(format_by_name("Q3_K"), block("Q3_K", "32s64s12se", bytes(hmask), bytes(qs), bytes(scales), 0.5))
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
    xs = decode(format_by_name("IQ4_XS"), block("IQ4_XS", "eH4s128s", 0.5, scales_h, scales_l, bytes([0xF8] * 128)))
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
    mx = decode(format_by_name("MXFP4"), block("MXFP4", "B16s", 130, bytes(i | (15 - i) << 4 for i in range(16))))
    signed = levels + [-x for x in levels]
    assert mx.tolist() == [8 * x for x in signed + signed[::-1]]
    # Scales 1.5, the least normal number, a subnormal one and E4M3's NaN, which counts as 0.
    nv = decode(format_by_name("NVFP4"), block("NVFP4", "4s32s", bytes([0x3C, 0x08, 0x03, 0x7F]), bytes([0x21] * 32)))
    assert nv[::8].tolist() == [0.75, 1.5, 2.0**-7, 2.0**-6, 1.5 * 2.0**-9, 3 * 2.0**-9, 0, 0]


def test_unpacked_minimums_are_negative_products() -> None:
    scales = bytes([7, 0, 0, 0, 11] + [0] * 7)
    u = unpack(format_by_name("Q4_K"), block("Q4_K", "ee12s128s", 0.5, 2, scales, bytes(128)))
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
