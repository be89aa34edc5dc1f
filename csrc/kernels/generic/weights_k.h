// Super-blocks of 256 weights: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS.
//
// step<M>() walks the eight sub-blocks of 32 that a super-block has; `a[m] + j` is the activation block of sub-block
// j. Six-bit scales stay packed and are taken out for 16 rows at once. Formulas: docs/numerics.md.

inline I32 byte_of(const uint8_t* words, int byte) {  // byte number `byte` of each row's word sequence, as 0..255
  return shift_right(load_i32(words + 64 * (byte / 4)), 8 * (byte % 4)) & splat_i32(255);
}
inline I32 signed_byte_of(const uint8_t* words, int byte) {
  return shift_right_signed(shift_left(load_i32(words + 64 * (byte / 4)), 24 - 8 * (byte % 4)), 24);
}

template <int M>
inline void at_block(const QuantBlock* const* a, int block, const QuantBlock** out) {
  for (int m = 0; m < M; ++m) out[m] = a[m] + block;
}

// Scale and minimum of sub-block j of Q4_K and Q5_K: 6 bits each in 12 bytes.
struct ScaleMin {
  I32 scale, minimum;
};
inline ScaleMin scale_min_k4(const uint8_t* words, int j) {
  const I32 low6 = splat_i32(63), low4 = splat_i32(15);
  if (j < 4) return {byte_of(words, j) & low6, byte_of(words, j + 4) & low6};
  const I32 last = byte_of(words, j + 4);
  return {(last & low4) | shift_left(shift_right(byte_of(words, j - 4), 6), 4),
          shift_right(last, 4) | shift_left(shift_right(byte_of(words, j), 6), 4)};
}

// Two halves of 16 weights with integer scales of their own: scale0 * sum0 + scale1 * sum1. All of it stays below
// 2^24, so binary32 holds every step exactly, and costs less than a product of 32-bit integers.
template <int M, class Word>
inline void dot_halves(const Word& word, int zero_point, const QuantBlock* const* a, F32 scale0, F32 scale1,
                       F32* isum) {
  for (int m = 0; m < M; ++m) isum[m] = splat(0);
  for (int half = 0; half < 2; ++half) {
    I32 part[M];
    for (int m = 0; m < M; ++m) part[m] = splat_i32(-zero_point * a[m]->sum[half]);
    for (int i = 4 * half; i < 4 * half + 4; ++i) {
      const U8 w = word(i);
      for (int m = 0; m < M; ++m) part[m] = dot4(part[m], w, a[m]->q + 4 * i);
    }
    for (int m = 0; m < M; ++m) isum[m] = fma(half ? scale1 : scale0, to_f32(part[m]), isum[m]);
  }
}

template <int M>
inline void add_scaled(const QuantBlock* const* a, const F32* isum, F32 scale, F32* acc) {
  for (int m = 0; m < M; ++m) acc[m] = fma(isum[m], scale * splat(a[m]->d), acc[m]);
}

struct Q2_K {
  static constexpr BlockLayout kLayout = {256, 84, {{80, 2}}, {{0, 4}, {16, 16}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const uint8_t *scales = w + 64, *quants = w + 320;
    const F32 d = load_f16(w), dmin = splat(0) - load_f16(w + 32);
    eight_times([&](auto index) {
      const int j = index;
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      const I32 s0 = byte_of(scales, 2 * j), s1 = byte_of(scales, 2 * j + 1), low4 = splat_i32(15);
      const F32 mn0 = to_f32(shift_right(s0, 4)), mn1 = to_f32(shift_right(s1, 4));
      for (int m = 0; m < M; ++m) {
        const F32 sum0 = to_f32(splat_i32(b[m]->sum[0])), sum1 = to_f32(splat_i32(b[m]->sum[1]));
        acc[m] = fma(dmin, splat(b[m]->d) * fma(mn1, sum1, mn0 * sum0), acc[m]);
      }
      F32 isum[M];
      const auto word = [&](int i) { return bit_field(load_u8(quants + 64 * (8 * (j / 4) + i)), 2 * (j % 4), 3); };
      dot_halves<M>(word, 0, b, to_f32(s0 & low4), to_f32(s1 & low4), isum);
      add_scaled<M>(b, isum, d, acc);
    });
  }
};

struct Q3_K {
  static constexpr BlockLayout kLayout = {256, 110, {{108, 1}}, {{0, 8}, {32, 16}, {96, 3}}, false};
  static I32 scale(const uint8_t* scales, int j) {  // 16 of six bits: low nibbles in bytes 0-7, high pairs in 8-11
    const I32 low = j < 8 ? byte_of(scales, j) & splat_i32(15) : shift_right(byte_of(scales, j - 8), 4);
    const I32 high = shift_right(byte_of(scales, 8 + j % 4), 2 * (j / 4)) & splat_i32(3);
    return (low | shift_left(high, 4)) - splat_i32(32);
  }
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const uint8_t *high = w + 32, *quants = high + 512, *scales = quants + 1024;
    const F32 d = load_f16(w);
    eight_times([&](auto index) {
      const int j = index;
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      F32 isum[M];
      const auto word = [&](int i) {
        return bit_field(load_u8(quants + 64 * (8 * (j / 4) + i)), 2 * (j % 4), 3) |
               shift_up(bit_field(load_u8(high + 64 * i), j, 1), 2);
      };
      dot_halves<M>(word, 4, b, to_f32(scale(scales, 2 * j)), to_f32(scale(scales, 2 * j + 1)), isum);
      add_scaled<M>(b, isum, d, acc);
    });
  }
};

// Q4_K and Q5_K differ in the fifth bit alone.
template <class Word, int M>
inline void step_k45(const uint8_t* halves, const uint8_t* scales, const Word& word, const QuantBlock* const* a,
                     F32* acc) {
  const F32 d = load_f16(halves), dmin = splat(0) - load_f16(halves + 32);
  for (int j = 0; j < 8; ++j) {
    const QuantBlock* b[M];
    at_block<M>(a, j, b);
    I32 isum[M];
    start<M>(b, 0, isum);
    for (int i = 0; i < 8; ++i) {
      const U8 q = word(j, i);
      for (int m = 0; m < M; ++m) isum[m] = dot4(isum[m], q, b[m]->q + 4 * i);
    }
    const ScaleMin s = scale_min_k4(scales, j);
    add_minimum<M>(b, dmin * to_f32(s.minimum), acc);
    add_scaled<M>(b, isum, d * to_f32(s.scale), acc);
  }
}

inline U8 nibble_k45(const uint8_t* quants, int j, int i) {
  return bit_field(load_u8(quants + 64 * (8 * (j / 2) + i)), 4 * (j % 2), 15);
}

struct Q4_K {
  static constexpr BlockLayout kLayout = {256, 144, {{0, 2}}, {{4, 3}, {16, 32}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const auto word = [&](int j, int i) { return nibble_k45(w + 256, j, i); };
    step_k45<decltype(word), M>(w, w + 64, word, a, acc);
  }
};

struct Q5_K {
  static constexpr BlockLayout kLayout = {256, 176, {{0, 2}}, {{4, 3}, {16, 8}, {48, 32}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const auto word = [&](int j, int i) {
      return nibble_k45(w + 768, j, i) | shift_up(bit_field(load_u8(w + 256 + 64 * i), j, 1), 4);
    };
    step_k45<decltype(word), M>(w, w + 64, word, a, acc);
  }
};

struct Q6_K {
  static constexpr BlockLayout kLayout = {256, 210, {{208, 1}}, {{0, 32}, {128, 16}, {192, 4}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const uint8_t *low = w + 32, *high = low + 2048, *scales = high + 1024;
    const F32 d = load_f16(w);
    eight_times([&](auto index) {
      const int j = index;
      const int half = j / 4, c = j % 4;
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      F32 isum[M];
      const auto word = [&](int i) {
        const U8 l = load_u8(low + 64 * (16 * half + 8 * (c % 2) + i));
        return bit_field(l, 4 * (c / 2), 15) | shift_up(bit_field(load_u8(high + 64 * (8 * half + i)), 2 * c, 3), 4);
      };
      const F32 s0 = to_f32(signed_byte_of(scales, 2 * j)), s1 = to_f32(signed_byte_of(scales, 2 * j + 1));
      dot_halves<M>(word, 32, b, s0, s1, isum);
      add_scaled<M>(b, isum, d, acc);
    });
  }
};

struct IQ4_XS {
  static constexpr BlockLayout kLayout = {256, 136, {{0, 2}}, {{4, 33}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const F32 d = load_f16(w);
    const I32 high = load_u16x16(w + 32), low = load_i32(w + 64);
    eight_times([&](auto index) {
      const int j = index;
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      I32 isum[M];
      start<M>(b, 0, isum);
      dot_codebook<M>(w + 128 + 256 * j, b, isum);
      const I32 ls = (shift_right(low, 4 * j) & splat_i32(15)) | shift_left(shift_right(high, 2 * j) & splat_i32(3), 4);
      add_scaled<M>(b, isum, d * to_f32(ls - splat_i32(32)), acc);
    });
  }
};
