// The scale of one run of weights: x is about s * q, with q of a set of levels. For given q the best s is
// sum(w q x) / sum(w q q), and the error is least where sum(w q x)^2 / sum(w q q) is greatest. So several scales that
// bring the greatest element near the ends of the levels are tried, the best is refitted to its own integers, and those
// to it, some times over: no step makes the error greater.

struct Fit {
  F32 scale;      // the scale has a sign
  F32 curvature;  // sum(w q q): how fast the error grows beside the scale
};

struct Moments {
  F32 qx, qq;
};

// Several scales are tried at a time: one sum alone would wait for itself.
template <class Levels, int kWays>
inline void moments(const Batch& b, int first, int n, const F32* inverse, Moments* out) {
  Moments m[kWays];
  for (int i = 0; i < kWays; ++i) m[i] = {zero(), zero()};
  for (int e = first; e < first + n; ++e) {
    const F32 x = b.value(e), w = b.weight(e);
    for (int i = 0; i < kWays; ++i) {
      const F32 q = Levels::nearest(x, inverse[i]), wq = w * q;
      m[i].qx = fma(wq, x, m[i].qx);
      m[i].qq = fma(wq, q, m[i].qq);
    }
  }
  for (int i = 0; i < kWays; ++i) out[i] = m[i];
}

// The greatest element is tried at `count` (an even number of) places among the levels, from `first` on, a `step` apart,
// where its sign is that of -1; with a `shift` every second one lies so much further in on the other side, for levels
// that do not reach equally far.
struct Tries {
  float first, step;
  int count;
  float shift;
  int refits;
};

template <class Levels, const Tries& kTries>
inline Fit best_scale(const Batch& b, int first, int n) {
  F32 best = splat(-1), scale = zero(), curvature = zero();
  const auto take = [&](const Moments& m) {
    const F32 fitted = ratio(m.qx, m.qq), gain = fitted * m.qx;
    scale = where_greater(gain, best, fitted, scale);
    curvature = where_greater(gain, best, m.qq, curvature);
    best = max(best, gain);
  };
  // Where there are weights, the element that counts most may be another one than the greatest.
  for (int anchor = 0; anchor <= (b.weighted ? 1 : 0); ++anchor) {
    const F32 top = anchor ? heaviest(b, first, n) : extreme(b, first, n);
    const F32 unit = where_greater(magnitude(top), splat(1e-30f), splat(1) / top, zero());
    for (int i = 0; i < kTries.count; i += 2) {
      const float at = kTries.first + static_cast<float>(i) * kTries.step;
      const F32 inverse[2] = {unit * splat(-at), unit * splat(kTries.shift ? at - kTries.shift : -at - kTries.step)};
      Moments m[2];
      moments<Levels, 2>(b, first, n, inverse, m);
      take(m[0]), take(m[1]);
    }
  }
  for (int i = 0; i < kTries.refits + (b.weighted ? 1 : 0); ++i) {
    const F32 inverse = ratio(splat(1), scale);
    Moments m;
    moments<Levels, 1>(b, first, n, &inverse, &m);
    take(m);
  }
  return {scale, curvature};
}

// Fills in the integers for a final scale.
template <class Levels>
inline void fill_codes(Batch& b, int first, int n, F32 scale) {
  const F32 inverse = ratio(splat(1), scale);
  for (int e = first; e < first + n; ++e) b.q[e] = Levels::code(b.value(e), inverse);
}
