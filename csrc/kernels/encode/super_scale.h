// Super-blocks whose sub-blocks have integer scales: x is about d * sc * q (Q3_K, Q6_K, IQ4_XS).
// Each sub-block's best scale s comes first, with the curvature of its error there; d is the one whose multiples lie
// nearest to all s, weighed by the curvatures. Then in turns: each sub-block takes the integer scale beside s / d with the
// least error of its own, requantized; d is refitted to all integers at once. A turn that gains nothing is dropped.

struct ScaleCode {
  int low, high;  // range of the integer scales
};

struct Scales {
  F32 d;
  F32 sc[kMostSubBlocks];
  F32 error;
};

// d such that the multiples d * sc, sc within the code, are nearest to the scales of `fits`.
template <int kCount, const ScaleCode& kCode>
inline F32 best_unit(const Fit* fits) {
  F32 top = zero();
  for (int j = 0; j < kCount; ++j) top = where_greater(magnitude(fits[j].scale), magnitude(top), fits[j].scale, top);
  F32 best = zero(), least = splat(3e38f);
  const auto attempt = [&](float at) {
    const F32 d = as_f16(top * splat(1 / at)), inverse = ratio(splat(1), d);
    F32 error = zero();
    for (int j = 0; j < kCount; ++j) {
      const F32 s = fits[j].scale, sc = rounded_clamp(s * inverse, kCode.low, kCode.high);
      const F32 rest = fma(negative(sc), d, s);
      error = fma(fits[j].curvature * rest, rest, error);
    }
    best = where_less(error, least, d, best);
    least = min(error, least);
  };
  for (int i = 0; i < 6; ++i) {
    const float inward = static_cast<float>(i) * (static_cast<float>(-kCode.low) / 32.0f);
    attempt(static_cast<float>(kCode.low) + inward - 0.4f);
    attempt(static_cast<float>(kCode.high) - inward + 0.4f);
  }
  return best;
}

// The integer scales for a d, and the refitted d.
template <class Levels, int kCount, int kSize, const ScaleCode& kCode>
inline F32 choose_scales(const Batch& b, const Fit* fits, Scales& s) {
  const F32 inverse_d = ratio(splat(1), s.d);
  F32 ux = zero(), uu = zero();
  s.error = zero();
  for (int j = 0; j < kCount; ++j) {
    const F32 middle = nearest_integer(clamp(fits[j].scale * inverse_d, kCode.low, kCode.high));
    F32 sc[3], scale[3], inverse[3], error[3];
    Moments m[3];
    for (int i = 0; i < 3; ++i) {
      sc[i] = clamp(middle + splat(static_cast<float>(i - 1)), kCode.low, kCode.high);
      scale[i] = s.d * sc[i], inverse[i] = ratio(splat(1), scale[i]);
      error[i] = m[i].qx = m[i].qq = zero();
    }
    for (int e = kSize * j; e < kSize * (j + 1); ++e) {
      const F32 x = b.value(e), w = b.weight(e);
      for (int i = 0; i < 3; ++i) {
        const F32 q = Levels::nearest(x, inverse[i]), wq = w * q, rest = fma(negative(scale[i]), q, x);
        m[i].qx = fma(wq, x, m[i].qx);
        m[i].qq = fma(wq, q, m[i].qq);
        error[i] = fma(w * rest, rest, error[i]);
      }
    }
    F32 least = splat(3e38f), qx = zero(), qq = zero();
    for (int i = 0; i < 3; ++i) {
      s.sc[j] = where_less(error[i], least, sc[i], s.sc[j]);
      qx = where_less(error[i], least, m[i].qx, qx);
      qq = where_less(error[i], least, m[i].qq, qq);
      least = min(error[i], least);
    }
    s.error = s.error + least;
    ux = fma(s.sc[j], qx, ux);
    uu = fma(s.sc[j] * s.sc[j], qq, uu);
  }
  return as_f16(ratio(ux, uu));
}

template <class Levels, int kCount, int kSize, const ScaleCode& kCode, const Tries& kTries>
inline Scales search_scales(Batch& b, int turns) {
  Fit fits[kCount];
  for (int j = 0; j < kCount; ++j) fits[j] = best_scale<Levels, kTries>(b, kSize * j, kSize);
  Scales best, next;
  next.d = best_unit<kCount, kCode>(fits);
  best.error = splat(3e38f);
  for (int turn = 0; turn < turns; ++turn) {
    const F32 refitted = choose_scales<Levels, kCount, kSize, kCode>(b, fits, next);
    best.d = where_less(next.error, best.error, next.d, best.d);
    for (int j = 0; j < kCount; ++j) best.sc[j] = where_less(next.error, best.error, next.sc[j], best.sc[j]);
    best.error = min(next.error, best.error);
    next.d = refitted;
  }
  for (int j = 0; j < kCount; ++j) fill_codes<Levels>(b, kSize * j, kSize, best.d * best.sc[j]);
  return best;
}

struct Encode_Q3_K {
  static constexpr int kElements = kBlock_Q3_K, kBytes = kBytes_Q3_K;
  static constexpr ScaleCode kCode = {-32, 31};
  static constexpr Tries kTries = {3.1f, 0.25f, 8, 0.8f, 1};
  static void encode(Batch& b, const Blocks& out) {
    const Scales s = search_scales<Integers<-4, 3>, 16, 16, kCode, kTries>(b, 2);
    I32 sc[16];
    for (int j = 0; j < 16; ++j) sc[j] = round_to_i32(s.sc[j]) + splat_i32(32);
    const I32* q = b.q;
    out.bytes_of(0, 32, [&](int i) {
      I32 byte = splat_i32(0);
      for (int k = 0; k < 8; ++k) byte = byte | shift_left(shift_right(q[32 * k + i], 2), k);
      return byte;
    });
    put_two_bits(b, out, 32);
    out.bytes_of(96, 8, [&](int i) { return (sc[i] & splat_i32(15)) | shift_left(sc[i + 8] & splat_i32(15), 4); });
    out.bytes_of(104, 4, [&](int i) {
      I32 byte = splat_i32(0);
      for (int k = 0; k < 4; ++k) byte = byte | shift_left(shift_right(sc[4 * k + i], 4), 2 * k);
      return byte;
    });
    out.half(108, s.d);
  }
};

struct Encode_Q6_K {
  static constexpr int kElements = kBlock_Q6_K, kBytes = kBytes_Q6_K;
  static constexpr ScaleCode kCode = {-128, 127};
  static constexpr Tries kTries = {30.8f, 0.3f, 8, 0.8f, 1};
  static void encode(Batch& b, const Blocks& out) {
    const Scales s = search_scales<Integers<-32, 31>, 16, 16, kCode, kTries>(b, 2);
    for (int h = 0; h < 2; ++h) {
      const I32* q = b.q + 128 * h;
      out.bytes_of(64 * h, 64,
                   [&](int i) { return (q[i] & splat_i32(15)) | shift_left(q[64 + i] & splat_i32(15), 4); });
      out.bytes_of(128 + 32 * h, 32, [&](int i) {
        return (shift_right(q[i], 4) | shift_left(shift_right(q[32 + i], 4), 2)) |
               (shift_left(shift_right(q[64 + i], 4), 4) | shift_left(shift_right(q[96 + i], 4), 6));
      });
    }
    out.bytes_of(192, 16, [&](int i) { return round_to_i32(s.sc[i]) & splat_i32(255); });
    out.half(208, s.d);
  }
};

struct Encode_IQ4_XS {
  static constexpr int kElements = kBlock_IQ4_XS, kBytes = kBytes_IQ4_XS;
  static constexpr ScaleCode kCode = {-32, 31};
  static constexpr Tries kTries = {96, 3, 16, 6, 1};
  static void encode(Batch& b, const Blocks& out) {
    const Scales s = search_scales<Coded<kIq4Book>, 8, 32, kCode, kTries>(b, 2);
    I32 high = splat_i32(0), low = splat_i32(0);
    for (int j = 0; j < 8; ++j) {
      const I32 sc = round_to_i32(s.sc[j]) + splat_i32(32);
      high = high | shift_left(shift_right(sc, 4), 2 * j);
      low = low | shift_left(sc & splat_i32(15), 4 * j);
    }
    out.half(0, s.d);
    out.low_bytes(2, high, 2);
    out.words(4, &low, 1);
    for (int j = 0; j < 8; ++j) put_nibbles(b, out, 8 + 16 * j, 32 * j);
  }
};
