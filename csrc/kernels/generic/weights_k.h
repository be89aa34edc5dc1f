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
struct ScaleMin { I32 scale, minimum; };
inline ScaleMin scale_min_k4(const uint8_t* words, int j) {
  const I32 low6 = splat_i32(63), low4 = splat_i32(15);
  if (j < 4) return {byte_of(words, j) & low6, byte_of(words, j + 4) & low6};
  const I32 last = byte_of(words, j + 4);
  return {(last & low4) | shift_left(shift_right(byte_of(words, j - 4), 6), 4),
          shift_right(last, 4) | shift_left(shift_right(byte_of(words, j), 6), 4)};
}

// Two halves of 16 weights with integer scales of their own.
template <int M, class Word>
inline void dot_halves(const Word& word, int zero_point, const QuantBlock* const* a, I32 scale0, I32 scale1, I32* isum) {
  for (int m = 0; m < M; ++m) isum[m] = splat_i32(0);
  for (int half = 0; half < 2; ++half) {
    I32 part[M];
    for (int m = 0; m < M; ++m) part[m] = splat_i32(-zero_point * a[m]->sum[half]);
    for (int i = 4 * half; i < 4 * half + 4; ++i) {
      const U8 w = word(i);
      for (int m = 0; m < M; ++m) part[m] = dot4(part[m], w, a[m]->q + 4 * i);
    }
    for (int m = 0; m < M; ++m) isum[m] = isum[m] + (half ? scale1 : scale0) * part[m];
  }
}

inline U8 two_bits(const uint8_t* words, int c) {  // bits 2c and 2c+1 of every byte
  const U8 w = load_u8(words), mask = splat_u8(3);
  return (c == 0 ? w : c == 1 ? shift_bytes_right<2>(w) : c == 2 ? shift_bytes_right<4>(w) : shift_bytes_right<6>(w)) & mask;
}

inline U8 one_bit(const uint8_t* words, int bit) {  // that bit of every byte, as 0 or 1
  const U8 w = load_u8(words), one = splat_u8(1);
  switch (bit) {
    case 0: return w & one;
    case 1: return shift_bytes_right<1>(w) & one;
    case 2: return shift_bytes_right<2>(w) & one;
    case 3: return shift_bytes_right<3>(w) & one;
    case 4: return shift_bytes_right<4>(w) & one;
    case 5: return shift_bytes_right<5>(w) & one;
    case 6: return shift_bytes_right<6>(w) & one;
    default: return shift_bytes_right<7>(w) & one;
  }
}

struct Q2_K {
  static constexpr BlockLayout kLayout = {256, 84, {{80, 2}}, {{0, 4}, {16, 16}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const uint8_t *scales = w + 64, *quants = w + 320;
    const F32 d = load_f16(w), dmin = splat(0) - load_f16(w + 32);
    for (int j = 0; j < 8; ++j) {
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      const I32 s0 = byte_of(scales, 2 * j), s1 = byte_of(scales, 2 * j + 1), low4 = splat_i32(15);
      for (int m = 0; m < M; ++m) {
        const I32 imin = shift_right(s0, 4) * splat_i32(b[m]->sum[0]) + shift_right(s1, 4) * splat_i32(b[m]->sum[1]);
        acc[m] = fma(dmin, splat(b[m]->d) * to_f32(imin), acc[m]);
      }
      I32 isum[M];
      const auto word = [&](int i) { return two_bits(quants + 64 * (8 * (j / 4) + i), j % 4); };
      dot_halves<M>(word, 0, b, s0 & low4, s1 & low4, isum);
      add_scaled<M>(b, isum, d, acc);
    }
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
    for (int j = 0; j < 8; ++j) {
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      I32 isum[M];
      const auto word = [&](int i) {
        return two_bits(quants + 64 * (8 * (j / 4) + i), j % 4) | shift_bytes_left<2>(one_bit(high + 64 * i, j));
      };
      dot_halves<M>(word, 4, b, scale(scales, 2 * j), scale(scales, 2 * j + 1), isum);
      add_scaled<M>(b, isum, d, acc);
    }
  }
};

// Q4_K and Q5_K differ in the fifth bit alone.
template <class Word, int M>
inline void step_k45(const uint8_t* halves, const uint8_t* scales, const Word& word, const QuantBlock* const* a, F32* acc) {
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
  const U8 w = load_u8(quants + 64 * (8 * (j / 2) + i));
  return j % 2 ? high_nibbles(w) : w & splat_u8(15);
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
      return nibble_k45(w + 768, j, i) | shift_bytes_left<4>(one_bit(w + 256 + 64 * i, j));
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
    for (int j = 0; j < 8; ++j) {
      const int half = j / 4, c = j % 4;
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      I32 isum[M];
      const auto word = [&](int i) {
        const U8 l = load_u8(low + 64 * (16 * half + 8 * (c % 2) + i));
        return (c >= 2 ? high_nibbles(l) : l & splat_u8(15)) |
               shift_bytes_left<4>(two_bits(high + 64 * (8 * half + i), c));
      };
      dot_halves<M>(word, 32, b, signed_byte_of(scales, 2 * j), signed_byte_of(scales, 2 * j + 1), isum);
      add_scaled<M>(b, isum, d, acc);
    }
  }
};

struct IQ4_XS {
  static constexpr BlockLayout kLayout = {256, 136, {{0, 2}}, {{4, 33}}, false};
  template <int M>
  static void step(const uint8_t* w, const QuantBlock* const* a, F32* acc) {
    const F32 d = load_f16(w);
    const I32 high = load_u16x16(w + 32), low = load_i32(w + 64);
    for (int j = 0; j < 8; ++j) {
      const QuantBlock* b[M];
      at_block<M>(a, j, b);
      I32 isum[M];
      start<M>(b, 0, isum);
      dot_codebook<M>(w + 128 + 256 * j, b, isum);
      const I32 ls = (shift_right(low, 4 * j) & splat_i32(15)) | shift_left(shift_right(high, 2 * j) & splat_i32(3), 4);
      add_scaled<M>(b, isum, d * to_f32(ls - splat_i32(32)), acc);
    }
  }
};
