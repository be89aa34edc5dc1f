// A scale and a minimum: x is about s * q - m, with q of 0 .. kTop and m >= 0 (any m where kAnyMinimum). For given q both
// follow from two linear equations, and the error from five sums. Tried are steps that spread the range over some more or
// some fewer levels; the best is refitted.

struct AffineFit {
  F32 scale, minimum;
};

// Sums over a run: w, w x, w x x do not depend on q.
struct Given {
  F32 w, x, xx;
};

struct AffineMoments {
  F32 q, qq, qx;
};

inline Given given(const Batch& b, int first, int n) {
  Given g = {zero(), zero(), zero()};
  for (int e = first; e < first + n; ++e) {
    const F32 x = b.value(e), wx = b.weight(e) * x;
    g.w = g.w + b.weight(e);
    g.x = g.x + wx;
    g.xx = fma(wx, x, g.xx);
  }
  return g;
}

// Here q is the integer nearest to x * inverse + shift.
template <int kTop>
inline AffineMoments affine_moments(const Batch& b, int first, int n, F32 inverse, F32 shift) {
  AffineMoments m = {zero(), zero(), zero()};
  for (int e = first; e < first + n; ++e) {
    const F32 x = b.value(e), q = rounded_clamp(fma(x, inverse, shift), 0, kTop), wq = b.weight(e) * q;
    m.q = m.q + wq;
    m.qq = fma(wq, q, m.qq);
    m.qx = fma(wq, x, m.qx);
  }
  return m;
}

inline F32 affine_error(const Given& g, const AffineMoments& m, F32 scale, F32 minimum) {
  const F32 from_scale = scale * fma(scale, m.qq, splat(-2) * fma(minimum, m.q, m.qx));
  return (g.xx + from_scale) + minimum * fma(minimum, g.w, splat(2) * g.x);
}

// The best scale and minimum for these integers.
template <bool kAnyMinimum>
inline AffineFit affine_fit(const Given& g, const AffineMoments& m) {
  const F32 determinant = fma(g.w, m.qq, negative(m.q * m.q));
  const F32 scale = ratio(fma(g.w, m.qx, negative(m.q * g.x)), determinant);
  const F32 minimum = ratio(fma(scale, m.q, negative(g.x)), g.w);
  if (kAnyMinimum) return {scale, minimum};
  const F32 alone = ratio(m.qx, m.qq);
  return {max(where_less(minimum, zero(), alone, scale), zero()), max(minimum, zero())};
}

struct AffineTries {
  float first, step;  // levels that the range is spread over, minus kTop
  int count, refits;
};

template <int kTop, bool kAnyMinimum, const AffineTries& kTries>
inline AffineFit best_affine(const Batch& b, int first, int n, const Given& g) {
  F32 low = b.value(first), high = low;
  for (int e = first + 1; e < first + n; ++e) {
    low = min(low, b.value(e));
    high = max(high, b.value(e));
  }
  if (!kAnyMinimum) low = min(low, zero());
  const F32 range = high - low, unit = where_greater(range, splat(1e-30f), splat(1) / range, zero());
  AffineFit best = {zero(), kAnyMinimum ? ratio(negative(g.x), g.w) : zero()};
  F32 least = splat(3e38f);
  const auto attempt = [&](F32 inverse, F32 shift) {
    const AffineMoments m = affine_moments<kTop>(b, first, n, inverse, shift);
    const AffineFit fit = affine_fit<kAnyMinimum>(g, m);
    const F32 error = affine_error(g, m, fit.scale, fit.minimum);
    best.scale = where_less(error, least, fit.scale, best.scale);
    best.minimum = where_less(error, least, fit.minimum, best.minimum);
    least = min(error, least);
  };
  for (int i = 0; i < kTries.count + (b.weighted ? 3 : 0); ++i) {
    const float levels = kTop + kTries.first + static_cast<float>(i) * kTries.step;
    const F32 inverse = unit * splat(levels);
    attempt(inverse, negative(low) * inverse);
    // Spread over more levels than there are, the range loses its upper end; where elements differ in weight, the lower
    // one may be the better one to lose.
    if (b.weighted && levels > kTop) attempt(inverse, splat(kTop) - high * inverse);
  }
  for (int i = 0; i < kTries.refits + (b.weighted ? 2 : 0); ++i) {
    const F32 inverse = ratio(splat(1), best.scale);
    attempt(inverse, best.minimum * inverse);
  }
  return best;
}

template <int kTop>
inline void fill_affine_codes(Batch& b, int first, int n, F32 scale, F32 minimum) {
  const F32 inverse = ratio(splat(1), scale), shift = minimum * inverse;
  for (int e = first; e < first + n; ++e)
    b.q[e] = round_to_i32(rounded_clamp(fma(b.value(e), inverse, shift), 0, kTop));
}

// One scale and one minimum, which the block holds as d and m: s and -m.
template <int kTop, const AffineTries& kTries>
inline void encode_affine(Batch& b, const Blocks& out) {
  const AffineFit fit = best_affine<kTop, true, kTries>(b, 0, 32, given(b, 0, 32));
  const F32 d = as_f16(fit.scale), m = as_f16(fit.minimum);
  fill_affine_codes<kTop>(b, 0, 32, d, m);
  out.half(0, d);
  out.half(2, negative(m));
}

struct Encode_Q4_1 {
  static constexpr int kElements = kBlock_Q4_1, kBytes = kBytes_Q4_1;
  static constexpr AffineTries kTries = {-2.4f, 0.4f, 9, 2};
  static void encode(Batch& b, const Blocks& out) {
    encode_affine<15, kTries>(b, out);
    put_nibbles(b, out, 4, 0);
  }
};

struct Encode_Q5_1 {
  static constexpr int kElements = kBlock_Q5_1, kBytes = kBytes_Q5_1;
  static constexpr AffineTries kTries = {-2.4f, 0.6f, 6, 2};
  static void encode(Batch& b, const Blocks& out) {
    encode_affine<31, kTries>(b, out);
    put_fifth_bits(b, out, 4);
    put_nibbles(b, out, 8, 0);
  }
};
