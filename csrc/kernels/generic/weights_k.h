// Super-blocks of 256 weights: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS. Six-bit scales stay packed and are taken out for
// 16 rows at once; j is a constant, so that shifts by it cost one instruction.

inline I32 byte_of(const uint8_t* words, int byte) {  // byte number `byte` of each row's word sequence, as 0..255
  return byte_of(load_i32(words + 64 * (byte / 4)), byte % 4);
}
inline I32 signed_byte_of(const uint8_t* words, int byte) {
  return shift_right_signed(shift_left(load_i32(words + 64 * (byte / 4)), 24 - 8 * (byte % 4)), 24);
}

struct Q2_K {
  using Form = HalvesWithMinimum;
  static constexpr BlockLayout kLayout = {256, 84, {{80, 2}}, {{0, 4}, {16, 16}}, false};
  static constexpr int kZero = 0;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const uint8_t *scales = w + 64, *quants = w + 320;
    const F32 d = load_f16(w), minimum = splat(0) - load_f16(w + 32);
    eight_times([&](auto j) {
      const I32 s0 = byte_of(scales, 2 * j), s1 = byte_of(scales, 2 * j + 1), low4 = splat_i32(15);
      const auto words = [&](int i) { return bit_field(load_u8(quants + 64 * (8 * (j / 4) + i)), 2 * (j % 4), 3); };
      use(j, words,
          HalvesWithMinimum{d, to_f32(s0 & low4), to_f32(s1 & low4), minimum, to_f32(shift_right(s0, 4)),
                            to_f32(shift_right(s1, 4))});
    });
  }
};

struct Q3_K {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 110, {{108, 1}}, {{0, 8}, {32, 16}, {96, 3}}, false};
  static constexpr int kZero = 4;
  static F32 scale(const uint8_t* scales, int j) {  // 16 of six bits: low nibbles in bytes 0-7, high pairs in 8-11
    const I32 low = j < 8 ? byte_of(scales, j) & splat_i32(15) : shift_right(byte_of(scales, j - 8), 4);
    const I32 high = shift_right(byte_of(scales, 8 + j % 4), 2 * (j / 4)) & splat_i32(3);
    return to_f32((low | shift_left(high, 4)) - splat_i32(32));
  }
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const uint8_t *high = w + 32, *quants = high + 512, *scales = quants + 1024;
    const F32 d = load_f16(w);
    eight_times([&](auto j) {
      const auto words = [&](int i) {
        return bit_field(load_u8(quants + 64 * (8 * (j / 4) + i)), 2 * (j % 4), 3) |
               move_field(load_u8(high + 64 * i), j, 2, 1);
      };
      use(j, words, Halves{d, scale(scales, 2 * j), scale(scales, 2 * j + 1)});
    });
  }
};

// The scales and minimums of Q4_K and Q5_K: 6 bits each in 12 bytes, spread to four words of four bytes.
struct ScalesK4 {
  F32 d, minimum;
  I32 scales[2], minimums[2];  // of blocks 0 to 3 and 4 to 7
  explicit ScalesK4(const uint8_t* w) : d(load_f16(w)), minimum(splat(0) - load_f16(w + 32)) {
    const I32 a = load_i32(w + 64), b = load_i32(w + 128), c = load_i32(w + 192);
    const I32 low6 = splat_i32(0x3f3f3f3f), low4 = splat_i32(0x0f0f0f0f), high2 = splat_i32(0x30303030);
    scales[0] = a & low6;
    minimums[0] = b & low6;
    scales[1] = (c & low4) | (shift_right(a, 2) & high2);
    minimums[1] = (shift_right(c, 4) & low4) | (shift_right(b, 2) & high2);
  }
  WithMinimum of(int j) const {
    return {d * to_f32(byte_of(scales[j / 4], j % 4)), minimum * to_f32(byte_of(minimums[j / 4], j % 4))};
  }
};

inline U8 nibbles_k45(const uint8_t* quants, int j, int i) {
  return bit_field(load_u8(quants + 64 * (8 * (j / 2) + i)), 4 * (j % 2), 15);
}

struct Q4_K {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {256, 144, {{0, 2}}, {{4, 3}, {16, 32}}, false};
  static constexpr int kZero = 0, kLargest = 15;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const ScalesK4 scales(w);
    eight_times([&](auto j) {
      const auto words = [&](int i) { return nibbles_k45(w + 256, j, i); };
      use(j, words, scales.of(j));
    });
  }
};

struct Q5_K {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {256, 176, {{0, 2}}, {{4, 3}, {16, 8}, {48, 32}}, false};
  static constexpr int kZero = 0, kLargest = 31;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const ScalesK4 scales(w);
    eight_times([&](auto j) {
      const auto words = [&](int i) {
        return nibbles_k45(w + 768, j, i) | move_field(load_u8(w + 256 + 64 * i), j, 4, 1);
      };
      use(j, words, scales.of(j));
    });
  }
};

struct Q6_K {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 210, {{208, 1}}, {{0, 32}, {128, 16}, {192, 4}}, false};
  static constexpr int kZero = 32;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const uint8_t *low = w + 32, *high = low + 2048, *scales = high + 1024;
    const F32 d = load_f16(w);
    eight_times([&](auto j) {
      const auto words = [&](int i) {
        const int half = j / 4, c = j % 4;
        const U8 l = load_u8(low + 64 * (16 * half + 8 * (c % 2) + i));
        return bit_field(l, 4 * (c / 2), 15) | move_field(load_u8(high + 64 * (8 * half + i)), 2 * c, 4, 3);
      };
      use(j, words, Halves{d, to_f32(signed_byte_of(scales, 2 * j)), to_f32(signed_byte_of(scales, 2 * j + 1))});
    });
  }
};

struct IQ4_XS {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 136, {{0, 2}}, {{4, 33}}, false};
  static constexpr int kZero = kSigned;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    const I32 high = load_u16x16(w + 32), low = load_i32(w + 64);
    eight_times([&](auto j) {
      const I32 ls = (shift_right(low, 4 * j) & splat_i32(15)) | shift_left(shift_right(high, 2 * j) & splat_i32(3), 4);
      use(j, Codebook{w + 128 + 256 * j}, Scaled{d * to_f32(ls - splat_i32(32))});
    });
  }
};
