// Super-blocks of 256 weights: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS. Six-bit scales stay packed and are taken out for
// 16 rows at once. A super-block goes in two halves of four blocks: block number j is 4 * half + c, where c is a
// constant, so that shifts by it cost one instruction, and half is not, so that a loop fits the cache of decoded
// instructions (with all eight blocks written out, AVX2 lost half of its speed waiting for the decoder).

inline I32 byte_of(const uint8_t* words, int byte) {  // byte number `byte` of each row's word sequence, as 0..255
  return byte_of(load_i32(words + 64 * (byte / 4)), byte % 4);
}
inline I32 signed_byte_of(const uint8_t* words, int byte) {
  return shift_right_signed(shift_left(load_i32(words + 64 * (byte / 4)), 24 - 8 * (byte % 4)), 24);
}

// The bits that blocks 4 to 7 have in eight words, where blocks 0 to 3 have theirs.
inline void upper_nibbles(const uint8_t* words, uint8_t (*out)[64]) {
  for (int i = 0; i < 8; ++i) store_u8(out[i], bit_field(load_u8(words + 64 * i), 4, 15));
}

struct Q2_K {
  using Form = HalvesWithMinimum;
  static constexpr BlockLayout kLayout = {256, 84, {{80, 2}}, {{0, 4}, {16, 16}}};
  static constexpr int kZero = 0;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w), minimum = splat(0) - load_f16(w + 32);
    for (int half = 0; half < 2; ++half) {
      const uint8_t *scales = w + 64 + 128 * half, *quants = w + 320 + 512 * half;
      four_times([&](auto c) {
        const I32 s0 = byte_of(scales, 2 * c), s1 = byte_of(scales, 2 * c + 1), low4 = splat_i32(15);
        const auto words = [&](int i) { return bit_field(load_u8(quants + 64 * i), 2 * c, 3); };
        use(4 * half + c, words,
            HalvesWithMinimum{d, to_f32(s0 & low4), to_f32(s1 & low4), minimum, to_f32(shift_right(s0, 4)),
                              to_f32(shift_right(s1, 4))});
      });
    }
  }
};

struct Q3_K {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 110, {{108, 1}}, {{0, 8}, {32, 16}, {96, 3}}};
  static constexpr int kZero = 4;
  // 16 scales of six bits: low nibbles in bytes 0-7, high pairs in 8-11. These are the eight of a half.
  struct Scales {
    I32 words[2];
    Scales(const uint8_t* packed, int half) {
      const I32 low4 = splat_i32(0x0f0f0f0f), high = shift_right(load_i32(packed + 128), 4 * half);
      words[0] = (shift_right(load_i32(packed), 4 * half) & low4) | shift_left(high & splat_i32(0x03030303), 4);
      words[1] = (shift_right(load_i32(packed + 64), 4 * half) & low4) | shift_left(high & splat_i32(0x0c0c0c0c), 2);
    }
    F32 of(int k) const { return to_f32(byte_of(words[k / 4], k % 4) - splat_i32(32)); }
  };
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const uint8_t *bits = w + 32, *quants = bits + 512, *scales = quants + 1024;
    const F32 d = load_f16(w);
    alignas(64) uint8_t upper[8][64];
    upper_nibbles(bits, upper);
    for (int half = 0; half < 2; ++half, bits = upper[0], quants += 512) {
      const Scales scale(scales, half);
      four_times([&](auto c) {
        const auto words = [&](int i) {
          return bit_field(load_u8(quants + 64 * i), 2 * c, 3) | move_field(load_u8(bits + 64 * i), c, 2, 1);
        };
        use(4 * half + c, words, Halves{d, scale.of(2 * c), scale.of(2 * c + 1)});
      });
    }
  }
};

// The scales and minimums of Q4_K and Q5_K: 6 bits each in 12 bytes, spread to four words of four bytes.
struct ScalesK4 {
  F32 d, minimum;
  I32 scales[2], minimums[2];  // one for blocks 0 to 3, one for blocks 4 to 7
  explicit ScalesK4(const uint8_t* w) : d(load_f16(w)), minimum(splat(0) - load_f16(w + 32)) {
    const I32 a = load_i32(w + 64), b = load_i32(w + 128), c = load_i32(w + 192);
    const I32 low6 = splat_i32(0x3f3f3f3f), low4 = splat_i32(0x0f0f0f0f), high2 = splat_i32(0x30303030);
    scales[0] = a & low6;
    minimums[0] = b & low6;
    scales[1] = (c & low4) | (shift_right(a, 2) & high2);
    minimums[1] = (shift_right(c, 4) & low4) | (shift_right(b, 2) & high2);
  }
  WithMinimum of(int half, int c) const {
    return {d * to_f32(byte_of(scales[half], c)), minimum * to_f32(byte_of(minimums[half], c))};
  }
};

struct Q4_K {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {256, 144, {{0, 2}}, {{4, 3}, {16, 32}}};
  static constexpr int kZero = 0;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const ScalesK4 scales(w);
    const uint8_t* quants = w + 256;
    for (int half = 0; half < 2; ++half, quants += 1024) {
      four_times([&](auto c) {
        const auto words = [&](int i) { return bit_field(load_u8(quants + 64 * (8 * (c / 2) + i)), 4 * (c % 2), 15); };
        use(4 * half + c, words, scales.of(half, c));
      });
    }
  }
};

struct Q5_K {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {256, 176, {{0, 2}}, {{4, 3}, {16, 8}, {48, 32}}};
  static constexpr int kZero = kZeroOfFiveBits;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const ScalesK4 scales(w);
    const uint8_t *bits = w + 256, *quants = w + 768;
    alignas(64) uint8_t upper[8][64];
    upper_nibbles(bits, upper);
    for (int half = 0; half < 2; ++half, bits = upper[0], quants += 1024) {
      four_times([&](auto c) {
        const auto words = [&](int i) {
          return bit_field(load_u8(quants + 64 * (8 * (c / 2) + i)), 4 * (c % 2), 15) |
                 move_field(load_u8(bits + 64 * i), c, 4, 1);
        };
        use(4 * half + c, words, scales.of(half, c));
      });
    }
  }
};

// Half a super-block lies together, in the order in which it is needed: in the file's order, three places at a time, Zen 4
// reads from memory at half the speed.
struct Q6_K {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256,
                                          210,
                                          {{208, 1}},
                                          {{192, 2}, {128, 8}, {0, 16}, {200, 2}, {160, 8}, {64, 16}}};
  static constexpr int kZero = 32;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    const uint8_t* scales = w + 32;
    for (int half = 0; half < 2; ++half, scales += 1664) {
      const uint8_t *high = scales + 128, *low = high + 512;
      four_times([&](auto c) {
        const auto words = [&](int i) {
          const U8 l = load_u8(low + 64 * (8 * (c % 2) + i));
          return bit_field(l, 4 * (c / 2), 15) | move_field(load_u8(high + 64 * i), 2 * c, 4, 3);
        };
        use(4 * half + c, words,
            Halves{d, to_f32(signed_byte_of(scales, 2 * c)), to_f32(signed_byte_of(scales, 2 * c + 1))});
      });
    }
  }
};

struct IQ4_XS {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 136, {{0, 2}}, {{4, 33}}};
  static constexpr int kZero = kSigned;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    const I32 high = load_u16x16(w + 32), low = load_i32(w + 64);
    for (int j = 0; j < 8; ++j) {
      const I32 ls = (shift_right(low, 4 * j) & splat_i32(15)) | shift_left(shift_right(high, 2 * j) & splat_i32(3), 4);
      use(j, Codebook{w + 128 + 256 * j}, Scaled{d * to_f32(ls - splat_i32(32))});
    }
  }
};
