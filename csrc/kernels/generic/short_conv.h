// One row of a short causal convolution over time, perhaps between two gates: v = b * u, then the last taps of v times the
// weights, oldest first, in one chain of fma; times c. `state` has the taps - 1 values of v before this row, oldest first,
// and is moved on by one.
template <bool kGated>
inline void short_conv_of(const ShortConvArgs& a) {
  const int64_t older = a.taps - 1;
  for (int64_t k = 0; k < a.cols; ++k) {
    const float v = kGated ? a.b[k] * a.u[k] : a.u[k];
    const float* w = a.w + k * a.taps;
    float sum = older ? w[0] * a.state[k] : w[0] * v;
    for (int64_t tap = 1; tap < older; ++tap) {
      const float kept = a.state[tap * a.stride + k];
      sum = __builtin_fmaf(w[tap], kept, sum);
      a.state[(tap - 1) * a.stride + k] = kept;
    }
    if (older) {
      sum = __builtin_fmaf(w[older], v, sum);
      a.state[(older - 1) * a.stride + k] = v;
    }
    a.y[k] = kGated ? a.c[k] * sum : sum;
  }
}

inline void short_conv(const ShortConvArgs& a) { a.b ? short_conv_of<true>(a) : short_conv_of<false>(a); }
