// Super-blocks whose sub-blocks have integer scales and minimums: x is about d * sc * q - dmin * mn (Q2_K, Q4_K, Q5_K).
// As in super_scale.h: the best scale and minimum of each sub-block first, then in turns the integers beside them with
// the least error, and d and dmin together refitted to all integers.

struct AffineScales {
  F32 d, dmin;
  F32 sc[kMostSubBlocks], mn[kMostSubBlocks];
  F32 error;
};

// A unit whose multiples 0 .. kTop are nearest to the values, weighed.
template <int kCount, int kTop>
inline F32 best_positive_unit(const F32* values, const F32* weights) {
  F32 top = zero();
  for (int j = 0; j < kCount; ++j) top = max(top, values[j]);
  F32 best = zero(), least = splat(3e38f);
  for (int i = 0; i < 16; ++i) {
    const float at = kTop + 0.4f - static_cast<float>(i) * (static_cast<float>(kTop) / 40.0f);
    const F32 unit = as_f16(top * splat(1 / at)), inverse = ratio(splat(1), unit);
    F32 error = zero();
    for (int j = 0; j < kCount; ++j) {
      const F32 rest = fma(negative(rounded_clamp(values[j] * inverse, 0, kTop)), unit, values[j]);
      error = fma(weights[j] * rest, rest, error);
    }
    best = where_less(error, least, unit, best);
    least = min(error, least);
  }
  return best;
}

// What d and dmin are refitted from: sums of w u u, w u v, w v v, w u x, w v x with u = sc q and v = -mn.
struct UnitSums {
  F32 uu, uv, vv, ux, vx;
};

inline void refit_units(const UnitSums& t, AffineScales& s) {
  const F32 determinant = fma(t.uu, t.vv, negative(t.uv * t.uv));
  const F32 d = ratio(fma(t.vv, t.ux, negative(t.uv * t.vx)), determinant);
  const F32 dmin = ratio(fma(t.uu, t.vx, negative(t.uv * t.ux)), determinant);
  // One equation alone where there are no minimums, or where both together make no sense.
  const F32 alone = ratio(t.ux, t.uu);
  const F32 both = where_greater(d, zero(), where_greater(dmin, zero(), splat(1), zero()), zero());
  s.d = as_f16(where_greater(both, zero(), d, where_greater(t.vv, zero(), s.d, alone)));
  s.dmin = as_f16(where_greater(both, zero(), dmin, s.dmin));
}

template <int kTop, int kCount, int kSize, int kTopScale>
inline UnitSums choose_affine_scales(const Batch& b, const AffineFit* fits, const Given* sums, AffineScales& s) {
  const F32 inverse_d = ratio(splat(1), s.d), inverse_dmin = ratio(splat(1), s.dmin);
  UnitSums t = {zero(), zero(), zero(), zero(), zero()};
  s.error = zero();
  for (int j = 0; j < kCount; ++j) {
    const F32 middle = nearest_integer(clamp(fits[j].scale * inverse_d, 0, kTopScale));
    F32 least = splat(3e38f), q = zero(), qq = zero(), qx = zero();
    for (int step = -1; step <= 1; ++step) {
      const F32 sc = clamp(middle + splat(static_cast<float>(step)), 0, kTopScale);
      const F32 scale = s.d * sc, inverse = ratio(splat(1), scale);
      F32 mn = rounded_clamp(fits[j].minimum * inverse_dmin, 0, kTopScale);
      for (int refit = 0; refit < 2; ++refit) {
        const F32 minimum = s.dmin * mn;
        const AffineMoments m = affine_moments<kTop>(b, kSize * j, kSize, inverse, minimum * inverse);
        const F32 error = affine_error(sums[j], m, scale, minimum);
        s.sc[j] = where_less(error, least, sc, s.sc[j]);
        s.mn[j] = where_less(error, least, mn, s.mn[j]);
        q = where_less(error, least, m.q, q);
        qq = where_less(error, least, m.qq, qq);
        qx = where_less(error, least, m.qx, qx);
        least = min(error, least);
        const F32 wanted = ratio(fma(scale, m.q, negative(sums[j].x)), sums[j].w);
        mn = rounded_clamp(wanted * inverse_dmin, 0, kTopScale);
      }
    }
    s.error = s.error + least;
    t.uu = fma(s.sc[j] * s.sc[j], qq, t.uu);
    t.uv = t.uv - s.sc[j] * s.mn[j] * q;
    t.vv = fma(s.mn[j] * s.mn[j], sums[j].w, t.vv);
    t.ux = fma(s.sc[j], qx, t.ux);
    t.vx = t.vx - s.mn[j] * sums[j].x;
  }
  return t;
}

template <int kTop, int kCount, int kSize, int kTopScale, const AffineTries& kTries>
inline AffineScales search_affine_scales(Batch& b, int turns) {
  AffineFit fits[kCount];
  Given sums[kCount];
  F32 values[kCount], minimums[kCount], curvatures[kCount], weights[kCount];
  for (int j = 0; j < kCount; ++j) {
    sums[j] = given(b, kSize * j, kSize);
    fits[j] = best_affine<kTop, false, kTries>(b, kSize * j, kSize, sums[j]);
    values[j] = fits[j].scale, minimums[j] = fits[j].minimum;
    weights[j] = sums[j].w;
    curvatures[j] = sums[j].w * splat(static_cast<float>(kTop * kTop) / 3.0f);
  }
  AffineScales best, next;
  next.d = best_positive_unit<kCount, kTopScale>(values, curvatures);
  next.dmin = best_positive_unit<kCount, kTopScale>(minimums, weights);
  best.error = splat(3e38f);
  for (int turn = 0; turn < turns; ++turn) {
    const UnitSums t = choose_affine_scales<kTop, kCount, kSize, kTopScale>(b, fits, sums, next);
    best.d = where_less(next.error, best.error, next.d, best.d);
    best.dmin = where_less(next.error, best.error, next.dmin, best.dmin);
    for (int j = 0; j < kCount; ++j) {
      best.sc[j] = where_less(next.error, best.error, next.sc[j], best.sc[j]);
      best.mn[j] = where_less(next.error, best.error, next.mn[j], best.mn[j]);
    }
    best.error = min(next.error, best.error);
    refit_units(t, next);
  }
  for (int j = 0; j < kCount; ++j)
    fill_affine_codes<kTop>(b, kSize * j, kSize, best.d * best.sc[j], best.dmin * best.mn[j]);
  return best;
}

struct Encode_Q2_K {
  static constexpr int kElements = kBlock_Q2_K, kBytes = kBytes_Q2_K;
  static constexpr AffineTries kTries = {-1.2f, 0.15f, 14, 2};
  static void encode(Batch& b, const Blocks& out) {
    const AffineScales s = search_affine_scales<3, 16, 16, 15, kTries>(b, 3);
    out.bytes_of(0, 16, [&](int i) { return round_to_i32(s.sc[i]) | shift_left(round_to_i32(s.mn[i]), 4); });
    put_two_bits(b, out, 16);
    out.half(80, s.d);
    out.half(82, s.dmin);
  }
};

// Eight scales and eight minimums of six bits (src/llamaq/formats/kquants.py).
inline void put_six_bit_pairs(const AffineScales& s, const Blocks& out, int at) {
  I32 pair[2][8];
  for (int j = 0; j < 8; ++j) pair[0][j] = round_to_i32(s.sc[j]), pair[1][j] = round_to_i32(s.mn[j]);
  for (int k = 0; k < 2; ++k)
    out.bytes_of(at + 4 * k, 4, [&](int i) { return pair[k][i] | shift_left(shift_right(pair[k][i + 4], 4), 6); });
  out.bytes_of(at + 8, 4,
               [&](int i) { return (pair[0][i + 4] & splat_i32(15)) | shift_left(pair[1][i + 4] & splat_i32(15), 4); });
}

// The low halves of 32 bytes come first, then the high ones.
inline void put_wide_nibbles(const Batch& b, const Blocks& out, int at) {
  for (int c = 0; c < 4; ++c)
    out.bytes_of(at + 32 * c, 32, [&](int i) { return nibble_pair(b, 64 * c + i, 64 * c + 32 + i); });
}

struct Encode_Q4_K {
  static constexpr int kElements = kBlock_Q4_K, kBytes = kBytes_Q4_K;
  static constexpr AffineTries kTries = {-3.0f, 0.4f, 11, 2};
  static void encode(Batch& b, const Blocks& out) {
    const AffineScales s = search_affine_scales<15, 8, 32, 63, kTries>(b, 2);
    out.half(0, s.d);
    out.half(2, s.dmin);
    put_six_bit_pairs(s, out, 4);
    put_wide_nibbles(b, out, 16);
  }
};

struct Encode_Q5_K {
  static constexpr int kElements = kBlock_Q5_K, kBytes = kBytes_Q5_K;
  static constexpr AffineTries kTries = {-2.4f, 0.6f, 6, 2};
  static void encode(Batch& b, const Blocks& out) {
    const AffineScales s = search_affine_scales<31, 8, 32, 63, kTries>(b, 2);
    out.half(0, s.d);
    out.half(2, s.dmin);
    put_six_bit_pairs(s, out, 4);
    out.bytes_of(16, 32, [&](int i) {
      I32 byte = splat_i32(0);
      for (int j = 0; j < 8; ++j) byte = byte | shift_left(shift_right(b.q[32 * j + i], 4), j);
      return byte;
    });
    put_wide_nibbles(b, out, 48);
  }
};
