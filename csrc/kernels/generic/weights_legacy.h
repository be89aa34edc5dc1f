// Blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL.
//
// Each format is a struct whose step<M>() adds one block of 16 weight rows (16 lanes) for M rows of activations:
// eight words of four weights a lane are unpacked once and multiplied with M broadcast activation words. Zero points
// enter as -zp * sum(a), the start of the integer sum. Formulas: docs/numerics.md.

// A word holds elements 4i .. 4i+3 in its low nibbles and 16 + 4i .. in its high ones.
template <int M, class Words>
inline void dot_nibbles(const Words& words, const QuantBlock* const* a, I32* isum) {
  for (int i = 0; i < 4; ++i) {
    const U8 low = words.low(i), high = words.high(i);
    for (int m = 0; m < M; ++m) {
      isum[m] = dot4(isum[m], low, a[m]->q + 4 * i);
      isum[m] = dot4(isum[m], high, a[m]->q + 16 + 4 * i);
    }
  }
}

struct Nibbles {
  const uint8_t* words;
  U8 low(int i) const { return bit_field(load_u8(words + 64 * i), 0, 15); }
  U8 high(int i) const { return bit_field(load_u8(words + 64 * i), 4, 15); }
};

// Nibbles with a fifth bit: bit i (or 4 + i) of each byte of the regrouped high-bit word.
struct FiveBits {
  const uint8_t* words;
  U8 bits;
  U8 fifth(int i) const { return shift_up(bit_field(bits, i, 1), 4); }
  U8 low(int i) const { return bit_field(load_u8(words + 64 * i), 0, 15) | fifth(i); }
  U8 high(int i) const { return bit_field(load_u8(words + 64 * i), 4, 15) | fifth(4 + i); }
};

template <int M>
inline void add_scaled(const QuantBlock* const* a, const I32* isum, F32 scale, F32* acc) {
  for (int m = 0; m < M; ++m) acc[m] = fma(to_f32(isum[m]), scale * splat(a[m]->d), acc[m]);
}

template <int M>
inline void add_minimum(const QuantBlock* const* a, F32 minimum, F32* acc) {
  for (int m = 0; m < M; ++m) acc[m] = fma(minimum, splat(a[m]->d_sum), acc[m]);
}

template <int M>
inline void start(const QuantBlock* const* a, int zero_point, I32* isum) {
  for (int m = 0; m < M; ++m) isum[m] = splat_i32(-zero_point * (a[m]->sum[0] + a[m]->sum[1]));
}

struct Q4_0 {
  static constexpr BlockLayout kLayout = {32, 18, {{0, 1}}, {{2, 4}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 8, isum);
    dot_nibbles<M>(Nibbles{w + 32}, a, isum);
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};

struct Q4_1 {
  static constexpr BlockLayout kLayout = {32, 20, {{0, 2}}, {{4, 4}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 0, isum);
    dot_nibbles<M>(Nibbles{w + 64}, a, isum);
    add_minimum<M>(a, load_f16(w + 32), acc);
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};

struct Q5_0 {
  static constexpr BlockLayout kLayout = {32, 22, {{0, 1}}, {{2, 5}}, true};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 16, isum);
    dot_nibbles<M>(FiveBits{w + 96, load_u8(w + 32)}, a, isum);
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};

struct Q5_1 {
  static constexpr BlockLayout kLayout = {32, 24, {{0, 2}}, {{4, 5}}, true};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 0, isum);
    dot_nibbles<M>(FiveBits{w + 128, load_u8(w + 64)}, a, isum);
    add_minimum<M>(a, load_f16(w + 32), acc);
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};

struct Q8_0 {
  static constexpr BlockLayout kLayout = {32, 34, {{0, 1}}, {{2, 8}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 0, isum);
    for (int i = 0; i < 8; ++i) {
      const U8 word = load_u8(w + 32 + 64 * i);
      for (int m = 0; m < M; ++m) isum[m] = dot4_signed(isum[m], word, a[m]->q + 4 * i);
    }
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};

template <int M>
inline void dot_codebook(const uint8_t* words, const QuantBlock* const* a, I32* isum) {
  const Nibbles nibbles{words};
  for (int i = 0; i < 4; ++i) {
    const U8 low = lookup(kIq4Codebook, nibbles.low(i)), high = lookup(kIq4Codebook, nibbles.high(i));
    for (int m = 0; m < M; ++m) {
      isum[m] = dot4_signed(isum[m], low, a[m]->q + 4 * i);
      isum[m] = dot4_signed(isum[m], high, a[m]->q + 16 + 4 * i);
    }
  }
}

struct IQ4_NL {
  static constexpr BlockLayout kLayout = {32, 18, {{0, 1}}, {{2, 4}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    I32 isum[M];
    start<M>(a, 0, isum);
    dot_codebook<M>(w + 32, a, isum);
    add_scaled<M>(a, isum, load_f16(w), acc);
  }
};
