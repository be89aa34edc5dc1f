// IQ1, IQ2 and IQ3 for 16 rows at once. The build turns each codebook into words of codes: byte b has the number of
// level b in its low nibble and, for vectors of eight, that of level 4 + b in its high one. Gathered for 16 rows and with
// the sign in bit 3 of each nibble, they are looked up as the codes of a 4-bit format are.

// Seven bits say eight signs, because the number of minus signs is even: the eighth for each of four bytes.
inline I32 even_signs(I32 sevens) {
  I32 parity = sevens ^ shift_right(sevens, 4);
  parity = parity ^ shift_right(parity, 2);
  parity = parity ^ shift_right(parity, 1);
  return sevens | shift_left(parity & splat_i32(0x01010101), 7);
}

// Four fields of seven bits, each in a byte of its own.
inline I32 bytes_of_sevens(I32 x) {
  const auto field = [&](int k) { return shift_left(x, k) & splat_i32(0x7f << 8 * k); };
  return field(0) | field(1) | field(2) | field(3);
}

// Bit b of a byte goes to bit 3 of byte b, bit 4 + b to bit 7 of it: of four copies seven bits apart, every fourth bit.
inline I32 spread_signs(I32 signs) {
  signs = signs | shift_left(signs, 7);
  return shift_left((signs | shift_left(signs, 14)) & splat_i32(0x11111111), 3);
}

// The levels of eight codes above a zero point, then below it.
struct alignas(16) SignedLevels {
  int8_t at[16];
  constexpr SignedLevels(int zero, const int8_t (&levels)[8]) : at() {
    for (int i = 0; i < 8; ++i) {
      at[i] = static_cast<int8_t>(zero + levels[i]);
      at[8 + i] = static_cast<int8_t>(zero - levels[i]);
    }
  }
};

// For 32 weights, words 2k and 2k + 1 are the low and the high nibbles of `pairs[k]`.
struct CodePairs {
  const int8_t* levels;
  U8 pairs[4];
  template <class Pair>  // pair(k) gives codes and signs, k from 0 to 3
  CodePairs(const int8_t* levels, const Pair& pair) : levels(levels) {
    four_times([&](auto k) { pairs[k] = as_bytes(pair(k)); });
  }
  U8 operator()(int i) const { return lookup(levels, bit_field(pairs[i / 2], i % 2 * 4, 15)); }
};

inline F32 odd(I32 s) { return to_f32(shift_left(s, 1) | splat_i32(1)); }

inline Halves odd_halves(F32 d, I32 nibbles) {
  return {d, odd(nibbles & splat_i32(15)), odd(shift_right(nibbles, 4) & splat_i32(15))};
}

struct IQ2_XXS {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 66, {{0, 1}}, {{2, 16}}};
  static constexpr int kZero = kWideZero;
  static constexpr SignedLevels kLevels{kZero, {8, 25, 43}};
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w) * splat(0.125f);
    w += 32;
    for (int j = 0; j < 8; ++j, w += 128) {
      const I32 index = load_i32(w), word = load_i32(w + 64), signs = even_signs(bytes_of_sevens(word));
      const CodePairs words(kLevels.at, [&](auto k) {
        return gather(kIQ2XXSCodes, byte_of(index, k)) | spread_signs(byte_of(signs, k));
      });
      use(j, words, Scaled{d * odd(shift_right(word, 28))});
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ2_XXS> = Unpacking::kLong;

struct IQ2_XS {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 74, {{0, 1}}, {{2, 16}, {66, 2}}};
  static constexpr int kZero = kWideZero;
  static constexpr SignedLevels kLevels = IQ2_XXS::kLevels;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w) * splat(0.125f);
    const uint8_t *fields = w + 32, *scales = fields + 1024;
    for (int j = 0; j < 8; ++j, fields += 128) {
      const I32 a = load_i32(fields), b = load_i32(fields + 64), low7 = splat_i32(0x007f007f);
      const I32 signs = even_signs((shift_right(a, 9) & low7) | shift_left(shift_right(b, 9) & low7, 8));
      const CodePairs words(kLevels.at, [&](auto k) {
        const I32 index = shift_right(k < 2 ? a : b, k % 2 * 16) & splat_i32(511);
        return gather(kIQ2XSCodes, index) | spread_signs(byte_of(signs, k % 2 * 2 + k / 2));
      });
      use(j, words, odd_halves(d, byte_of(scales, j)));
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ2_XS> = Unpacking::kLong;

struct IQ2_S {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 82, {{0, 1}}, {{2, 8}, {34, 8}, {66, 2}, {74, 2}}};
  static constexpr int kZero = kWideZero;
  static constexpr SignedLevels kLevels = IQ2_XXS::kLevels;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w) * splat(0.125f);
    const uint8_t *low = w + 32, *signs = low + 512, *high = signs + 512, *scales = high + 128;
    for (int j = 0; j < 8; ++j) {
      const I32 index = load_i32(low + 64 * j), sign = load_i32(signs + 64 * j), h = byte_of(high, j);
      const CodePairs words(kLevels.at, [&](auto k) {
        const I32 upper = shift_left(h, 8 - 2 * k) & splat_i32(0x300);
        return gather(kIQ2SCodes, byte_of(index, k) | upper) | spread_signs(byte_of(sign, k));
      });
      use(j, words, odd_halves(d, byte_of(scales, j)));
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ2_S> = Unpacking::kLong;

struct IQ3_XXS {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 98, {{0, 1}}, {{2, 16}, {66, 8}}};
  static constexpr int kZero = kWideZero;
  static constexpr SignedLevels kLevels{kZero, {4, 12, 20, 28, 36, 44, 52, 62}};
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w) * splat(0.25f);
    const uint8_t *indices = w + 32, *fields = indices + 1024;
    for (int j = 0; j < 8; ++j, indices += 128, fields += 64) {
      const I32 a = load_i32(indices), b = load_i32(indices + 64), word = load_i32(fields);
      const I32 signs = even_signs(bytes_of_sevens(word));
      const CodePairs words(kLevels.at, [&](auto k) {
        const auto half = [&](int i) { return gather(kIQ3XXSCodes, byte_of(k < 2 ? a : b, k % 2 * 2 + i)); };
        return half(0) | shift_left(half(1), 4) | spread_signs(byte_of(signs, k));
      });
      use(j, words, Scaled{d * odd(shift_right(word, 28))});
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ3_XXS> = Unpacking::kLong;

struct IQ3_S {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 110, {{0, 1}}, {{2, 16}, {66, 2}, {74, 8}, {106, 1}}};
  static constexpr int kZero = 16;
  static constexpr SignedLevels kLevels{kZero, {1, 3, 5, 7, 9, 11, 13, 15}};
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    const uint8_t *low = w + 32, *high = low + 1024, *signs = high + 128;
    const I32 scales = load_i32(signs + 512);
    for (int j = 0; j < 8; ++j, low += 128) {
      const I32 a = load_i32(low), b = load_i32(low + 64), sign = load_i32(signs + 64 * j), h = byte_of(high, j);
      const CodePairs words(kLevels.at, [&](auto k) {
        const auto half = [&](int i) {
          const I32 upper = shift_left(h, 8 - 2 * k - i) & splat_i32(0x100);
          return gather(kIQ3SCodes, byte_of(k < 2 ? a : b, k % 2 * 2 + i) | upper);
        };
        return half(0) | shift_left(half(1), 4) | spread_signs(byte_of(sign, k));
      });
      use(j, words, Scaled{d * odd(shift_right(scales, 4 * j) & splat_i32(15))});
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ3_S> = Unpacking::kLong;

// Levels -1, 0, 1 in eighths, plus or (bit 3) minus 1.
alignas(16) static const int8_t kShiftedLevels[16] = {9, 17, 25, 0, 0, 0, 0, 0, 7, 15, 23, 0, 0, 0, 0, 0};

// It sets bit 3 of every nibble where the lowest bit is set.
inline I32 all_shifted(I32 negative) { return (splat_i32(0) - negative) & splat_i32(static_cast<int32_t>(0x88888888)); }

struct IQ1_S {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 50, {{0, 1}}, {{2, 8}, {34, 4}}};
  static constexpr int kZero = 16;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w) * splat(0.125f);
    const uint8_t *low = w + 32, *high = low + 512;
    for (int j = 0; j < 8; ++j) {
      const I32 index = load_i32(low + 64 * j), h = shift_right(load_i32(high + 64 * (j / 2)), j % 2 * 16);
      const I32 shifts = all_shifted(shift_right(h, 15) & splat_i32(1));
      const CodePairs words(kShiftedLevels, [&](auto k) {
        const I32 upper = shift_left(shift_right(h, 3 * k) & splat_i32(7), 8);
        return gather(kIQ1SCodes, byte_of(index, k) | upper) | shifts;
      });
      use(j, words, Scaled{d * odd(shift_right(h, 12) & splat_i32(7))});
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ1_S> = Unpacking::kLong;

// A binary16 in the low bits of each lane.
inline F32 f16_lanes(I32 halves) {
  float lanes[16];
  uint8_t packed[32];
  store(lanes, from_bits(halves));
  for (int i = 0; i < 16; ++i) memcpy(packed + 2 * i, lanes + i, 2);
  return load_f16(packed);
}

struct IQ1_M {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {256, 56, {}, {{0, 8}, {32, 4}, {48, 2}}};
  static constexpr int kZero = 16;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const uint8_t *low = w, *high = low + 512;
    const I32 scales[2] = {load_i32(w + 768), load_i32(w + 832)};  // the upper four bits of the four words are d's
    const F32 d =
        f16_lanes((shift_right(scales[0], 12) & splat_i32(0xf)) | (shift_right(scales[0], 24) & splat_i32(0xf0)) |
                  (shift_right(scales[1], 4) & splat_i32(0xf00)) | (shift_right(scales[1], 16) & splat_i32(0xf000))) *
        splat(0.125f);
    for (int j = 0; j < 8; ++j) {
      const I32 index = load_i32(low + 64 * j), h = shift_right(load_i32(high + 64 * (j / 2)), j % 2 * 16);
      const CodePairs words(kShiftedLevels, [&](auto k) {
        const I32 own = shift_right(h, 4 * k);
        const I32 code = gather(kIQ1SCodes, byte_of(index, k) | shift_left(own & splat_i32(7), 8));
        return code | all_shifted(shift_right(own, 3) & splat_i32(1));
      });
      const I32 pair = shift_right(scales[j / 4], 16 * (j / 2 % 2) + 6 * (j % 2));
      use(j, words, Halves{d, odd(pair & splat_i32(7)), odd(shift_right(pair, 3) & splat_i32(7))});
    }
  }
};
template <>
constexpr Unpacking kUnpacking<IQ1_M> = Unpacking::kLong;
