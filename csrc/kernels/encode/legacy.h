// Blocks with one scale: Q4_0, Q5_0, Q8_0, IQ4_NL, TQ1_0, TQ2_0; with one scale and one minimum: Q4_1, Q5_1; with a
// power of two: MXFP4. Layouts are ggml's (src/llamaq/formats).

inline I32 nibble_pair(const Batch& b, int low, int high) {
  return (b.q[low] & splat_i32(15)) | shift_left(b.q[high] & splat_i32(15), 4);
}

// It writes the 16 bytes that hold elements i and i + 16 of 32, from `first` on.
inline void put_nibbles(const Batch& b, const Blocks& out, int at, int first) {
  out.bytes_of(at, 16, [&](int i) { return nibble_pair(b, first + i, first + i + 16); });
}

// Bit i is the fifth bit of element i.
inline void put_fifth_bits(const Batch& b, const Blocks& out, int at) {
  I32 word = splat_i32(0);
  for (int i = 0; i < 32; ++i) word = word | shift_left(shift_right(b.q[i], 4), i);
  out.words(at, &word, 1);
}

struct Encode_Q4_0 {
  static constexpr int kElements = kBlock_Q4_0, kBytes = kBytes_Q4_0;
  static constexpr Tries kTries = {7.0f, 0.25f, 8, 0.8f, 1};
  static void encode(Batch& b, const Blocks& out) {
    const F32 d = as_f16(best_scale<Integers<-8, 7>, kTries>(b, 0, 32).scale);
    fill_codes<Integers<-8, 7>>(b, 0, 32, d);
    out.half(0, d);
    put_nibbles(b, out, 2, 0);
  }
};

struct Encode_Q5_0 {
  static constexpr int kElements = kBlock_Q5_0, kBytes = kBytes_Q5_0;
  static constexpr Tries kTries = {14.7f, 0.2f, 12, 0.8f, 2};
  static void encode(Batch& b, const Blocks& out) {
    const F32 d = as_f16(best_scale<Integers<-16, 15>, kTries>(b, 0, 32).scale);
    fill_codes<Integers<-16, 15>>(b, 0, 32, d);
    out.half(0, d);
    put_fifth_bits(b, out, 2);
    put_nibbles(b, out, 6, 0);
  }
};

// No integer is -128: some programs take magnitudes in a byte.
struct Encode_Q8_0 {
  static constexpr int kElements = kBlock_Q8_0, kBytes = kBytes_Q8_0;
  static constexpr Tries kTries = {125.6f, 0.4f, 6, 0, 1};
  static void encode(Batch& b, const Blocks& out) {
    const F32 d = as_f16(best_scale<Integers<-127, 127>, kTries>(b, 0, 32).scale);
    fill_codes<Integers<-127, 127>>(b, 0, 32, d);
    out.half(0, d);
    out.bytes_of(2, 32, [&](int i) { return (b.q[i] - splat_i32(127)) & splat_i32(255); });
  }
};

struct Encode_IQ4_NL {
  static constexpr int kElements = kBlock_IQ4_NL, kBytes = kBytes_IQ4_NL;
  static constexpr Tries kTries = {96, 3, 18, 6, 2};
  static void encode(Batch& b, const Blocks& out) {
    const F32 d = as_f16(best_scale<Coded<kIq4Book>, kTries>(b, 0, 32).scale);
    fill_codes<Coded<kIq4Book>>(b, 0, 32, d);
    out.half(0, d);
    put_nibbles(b, out, 2, 0);
  }
};

// 2^(e - 128) times doubled levels: the exponent that puts the greatest element between 4 and 8, or one beside it.
struct Encode_MXFP4 {
  static constexpr int kElements = kBlock_MXFP4, kBytes = kBytes_MXFP4;
  static void encode(Batch& b, const Blocks& out) {
    const I32 exponent = shift_right(bits(magnitude(extreme(b, 0, 32))), 23) - splat_i32(2);
    F32 best = splat(1e38f), scale = zero();
    for (int step = -1; step <= 1; ++step) {
      const F32 s = from_bits(shift_left(max(exponent + splat_i32(step), splat_i32(2)) - splat_i32(1), 23));
      const F32 inverse = splat(1) / s;
      F32 error = zero();
      for (int e = 0; e < 32; ++e) {
        const F32 rest = b.value(e) - s * Coded<kFp4Book>::nearest(b.value(e), inverse);
        error = fma(b.weight(e) * rest, rest, error);
      }
      scale = where_less(error, best, s, scale);
      best = min(error, best);
    }
    fill_codes<Coded<kFp4Book>>(b, 0, 32, scale);
    out.low_bytes(0, shift_right(bits(scale), 23) + splat_i32(1), 1);
    put_nibbles(b, out, 1, 0);
  }
};

struct Ternary {
  static constexpr int kElements = 256;
  static constexpr Tries kTries = {0.75f, 0.25f, 14, 0, 3};
  static F32 search(Batch& b) {
    const F32 d = as_f16(best_scale<Integers<-1, 1>, kTries>(b, 0, 256).scale);
    fill_codes<Integers<-1, 1>>(b, 0, 256, d);
    return d;
  }
};

struct Encode_TQ2_0 : Ternary {
  static constexpr int kBytes = kBytes_TQ2_0;
  static void encode(Batch& b, const Blocks& out) {
    out.half(64, search(b));
    for (int h = 0; h < 2; ++h)
      out.bytes_of(32 * h, 32, [&](int i) {
        const I32* q = b.q + 128 * h + i;
        return (q[0] | shift_left(q[32], 2)) | (shift_left(q[64], 4) | shift_left(q[96], 6));
      });
  }
};

// Five digits a byte (four in the last field), as the fraction 0.ttttt in base 3 in units of 1/256, rounded up.
struct Encode_TQ1_0 : Ternary {
  static constexpr int kBytes = kBytes_TQ1_0;
  static I32 fraction(const I32* q, int stride, int digits) {
    I32 number = splat_i32(0);
    for (int k = 0; k < 5; ++k) {
      number = number + shift_left(number, 1);
      if (k < digits) number = number + q[stride * k];
    }
    // (256 n + 242) / 243 for n up to 242: n + ceil(13 n / 243), and 13 n / 243 as a product with 2^16 / 243 rounded up
    const I32 ceiling = shift_right(number * splat_i32(3507) + splat_i32(65400), 16);
    return number + ceiling;
  }
  static void encode(Batch& b, const Blocks& out) {
    out.half(52, search(b));
    out.bytes_of(0, 32, [&](int i) { return fraction(b.q + i, 32, 5); });
    out.bytes_of(32, 16, [&](int i) { return fraction(b.q + 160 + i, 16, 5); });
    out.bytes_of(48, 4, [&](int i) { return fraction(b.q + 240 + i, 4, 4); });
  }
};
