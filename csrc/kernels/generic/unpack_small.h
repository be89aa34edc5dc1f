// One and two bits: TQ1_0, Q1_0 and Q2_0. One scale for the whole block.

template <class W, class Scales>
inline void scale_all(const Scales& scales, float d) {
  for (int j = 0; j < W::kLayout.block / 32; ++j) scales(j, d);
}

// A byte is the fraction 0.ttttt in base 3, in units of 1/256, rounded up: multiplied by 3^k modulo 256 it is what
// lies behind digit k, and three times that over 256 is the next digit.
template <int kBytes, int kDigits>
inline void ternary_digits(const uint8_t* src, uint8_t* q) {
  constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  for (int k = 0; k < kDigits; ++k)
    for (int i = 0; i < kBytes; ++i, ++q) *q = static_cast<uint8_t>(static_cast<uint8_t>(src[i] * kPowers[k]) * 3 >> 8);
}

struct TQ1_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {256, 54, {}, {}, false};
  static constexpr int kZero = 1;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    ternary_digits<32, 5>(src, q);
    ternary_digits<16, 5>(src + 32, q + 160);
    ternary_digits<4, 4>(src + 48, q + 240);
    scale_all<TQ1_0>(scales, f16_to_f32(load_u16(src + 52)));
  }
};

struct Q1_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {128, 18, {}, {}, false};
  static constexpr int kZero = 1;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    for (int i = 0; i < 16; ++i) store_u64(q + 8 * i, 2 * spread_bits(src[2 + i]));
    scale_all<Q1_0>(scales, f16_to_f32(load_u16(src)));
  }
};

// Eight neighbouring fields of two bits to eight bytes.
inline uint64_t spread_pairs(uint64_t bits) {
  bits = (bits | bits << 24) & 0x000000ff000000ff;
  bits = (bits | bits << 12) & 0x000f000f000f000f;
  return (bits | bits << 6) & 0x0303030303030303;
}

struct Q2_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {64, 18, {}, {}, false};
  static constexpr int kZero = 1;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    for (int i = 0; i < 8; ++i) store_u64(q + 8 * i, spread_pairs(load_u16(src + 2 + 2 * i)));
    scale_all<Q2_0>(scales, f16_to_f32(load_u16(src)));
  }
};
