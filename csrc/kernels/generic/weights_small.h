// One and two bits (Q1_0, Q2_0, TQ1_0, TQ2_0) and four-bit floats (MXFP4, NVFP4). E2M1 is doubled to be an integer and
// stands 16 above itself, so that it is unsigned; the scales are halved.

alignas(16) static const int8_t kFp4Above16[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct Q1_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {128, 18, {{0, 1}}, {{2, 4}}, {}, regroup_bits};
  static constexpr int kZero = 1;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    for (int j = 0; j < 4; ++j) {
      const U8 bits = load_u8(w + 32 + 64 * j);
      use(j, [&](auto i) { return move_field(bits, i, 1, 1); }, Scaled{d});
    }
  }
};

struct Q2_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {64, 18, {{0, 1}}, {{2, 4}}, {}, regroup_pairs};
  static constexpr int kZero = 1;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    for (int j = 0; j < 2; ++j) {
      const uint8_t* pairs = w + 32 + 128 * j;
      use(j, [&](int i) { return bit_field(load_u8(pairs + 64 * (i / 4)), i % 4 * 2, 3); }, Scaled{d});
    }
  }
};

// Digit k of the fractions 0.ttttt in base 3 that bytes are, in units of 1/256, rounded up: multiplied by 3^k modulo 256
// a byte is what lies behind digit k - 1, and three times that over 256 is digit k.
inline U8 ternary_digit(U8 fraction, int k) {
  for (; k > 0; --k) fraction = fraction + fraction + fraction;
  return carry_of_three(fraction);
}

// A word has five digits of each of its bytes: blocks 0 to 4 are those of words 0 to 7, the next 80 weights those of
// words 8 to 11, and the last 16 the four digits of word 12.
struct TQ1_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 54, {{52, 1}}, {{0, 13}}};
  static constexpr int kZero = 1;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    const auto digit = [&](int word, int k) { return ternary_digit(load_u8(w + 32 + 64 * word), k); };
    eight_times([&](auto j) {
      const auto words = [&](int i) {
        if (j < 5) return digit(i, j);
        const int after = 8 * (j - 5) + i;  // words of weights that lie behind those
        return after < 20 ? digit(8 + after % 4, after / 4) : digit(12, after - 20);
      };
      use(j, words, Scaled{d});
    });
  }
};
template <>
constexpr Unpacking kUnpacking<TQ1_0> = Unpacking::kLong;

struct TQ2_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 66, {{64, 1}}, {{0, 16}}};
  static constexpr int kZero = 1;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const F32 d = load_f16(w);
    eight_times([&](auto j) {
      const auto words = [&](int i) { return bit_field(load_u8(w + 32 + 64 * (8 * (j / 4) + i)), 2 * (j % 4), 3); };
      use(j, words, Scaled{d});
    });
  }
};
template <>
constexpr Unpacking kUnpacking<TQ2_0> = Unpacking::kLong;

// Half of E8M0, 2^(e - 128). Its exponent bits are e - 1; the two least values are subnormal, one bit of the fraction.
inline F32 half_of_e8m0(I32 e) {
  return from_bits(max(shift_left(e - splat_i32(1), 23), shift_left(e + splat_i32(1), 21)));
}

struct MXFP4 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {32, 17, {}, {{1, 4}}, {0, 1}};
  static constexpr int kZero = 16;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, [&](int i) { return lookup(kFp4Above16, Nibbles{w + 16}(i)); }, Scaled{half_of_e8m0(load_u8x16(w))});
  }
};

// Half of unsigned E4M3 with bias 7, bytes as 0..255. A subnormal is a fixed-point fraction: with an exponent in front
// it is 2^-7 too large. 0x7f counts as 0 and the top bit is ignored.
inline F32 half_of_ue4m3(I32 x) {
  const I32 magnitude = shift_left(x & splat_i32(127), 20);
  const F32 normal = from_bits(magnitude + splat_i32(119 << 23)), least = splat(0x1p-7f);
  const F32 any = where_less(normal, least, from_bits(magnitude + splat_i32(120 << 23)) - least, normal);
  const I32 above = x - splat_i32(127), distance = max(above, splat_i32(0) - above);
  return from_bits(bits(any) & shift_right_signed(splat_i32(0) - distance, 31));
}

// A scale for each of four 16s, whose low nibbles are their first eight elements.
struct NVFP4 {
  using Form = Halves;
  static constexpr BlockLayout kLayout = {64, 36, {}, {{0, 1}, {4, 8}}};
  static constexpr int kZero = 16;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    const auto block = [&](auto j) {
      const auto words = [&](int i) {
        const U8 nibbles = load_u8(w + 64 + 64 * (4 * j + 2 * (i / 4) + i % 2));
        return lookup(kFp4Above16, bit_field(nibbles, i / 2 % 2 * 4, 15));
      };
      use(j, words, Halves{splat(1), half_of_ue4m3(byte_of(w, 2 * j)), half_of_ue4m3(byte_of(w, 2 * j + 1))});
    };
    block(Constant<0>()), block(Constant<1>());
  }
};
template <>
constexpr Unpacking kUnpacking<NVFP4> = Unpacking::kLong;
