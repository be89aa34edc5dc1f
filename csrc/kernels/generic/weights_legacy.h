// Blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL.

// A word holds elements 4i .. 4i+3 in its low nibbles and 16 + 4i .. in its high ones.
struct Nibbles {
  const uint8_t* packed;
  U8 operator()(int i) const { return bit_field(load_u8(packed + 64 * (i % 4)), i / 4 * 4, 15); }
};

// Nibbles with a fifth bit: bit i of each byte of the regrouped high-bit word.
struct FiveBits {
  const uint8_t* packed;
  U8 bits;
  template <class Index>
  U8 operator()(Index i) const {
    return Nibbles{packed}(i) | move_field(bits, i, 4, 1);
  }
};

struct Bytes {
  const uint8_t* packed;
  U8 operator()(int i) const { return load_u8(packed + 64 * i); }
};

struct Codebook {
  const uint8_t* packed;
  U8 operator()(int i) const { return lookup(kIq4Codebook, Nibbles{packed}(i)); }
};

struct Q4_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {32, 18, {{0, 1}}, {{2, 4}}};
  static constexpr int kZero = 8;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, Nibbles{w + 32}, Scaled{load_f16(w)});
  }
};
template <>
constexpr Unpacking kUnpacking<Q4_0> = Unpacking::kTrivial;

struct Q4_1 {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {32, 20, {{0, 2}}, {{4, 4}}};
  static constexpr int kZero = 0;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, Nibbles{w + 64}, WithMinimum{load_f16(w), load_f16(w + 32)});
  }
};
template <>
constexpr Unpacking kUnpacking<Q4_1> = Unpacking::kTrivial;

struct Q5_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {32, 22, {{0, 1}}, {{2, 1}, {6, 4}}, {}, regroup_bits};
  static constexpr int kZero = 16;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, FiveBits{w + 96, load_u8(w + 32)}, Scaled{load_f16(w)});
  }
};

struct Q5_1 {
  using Form = WithMinimum;
  static constexpr BlockLayout kLayout = {32, 24, {{0, 2}}, {{4, 1}, {8, 4}}, {}, regroup_bits};
  static constexpr int kZero = kZeroOfFiveBits;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, FiveBits{w + 128, load_u8(w + 64)}, WithMinimum{load_f16(w), load_f16(w + 32)});
  }
};

struct Q8_0 {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {32, 34, {{0, 1}}, {{2, 8}}};
  static constexpr int kZero = kSigned;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, Bytes{w + 32}, Scaled{load_f16(w)});
  }
};
template <>
constexpr Unpacking kUnpacking<Q8_0> = Unpacking::kTrivial;

struct IQ4_NL {
  using Form = Scaled;
  static constexpr BlockLayout kLayout = {32, 18, {{0, 1}}, {{2, 4}}};
  static constexpr int kZero = kSigned;
  template <class Use>
  static void each(const uint8_t* w, const Use& use) {
    use(0, Codebook{w + 32}, Scaled{load_f16(w)});
  }
};
