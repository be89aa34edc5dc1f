// One row of a short causal convolution over time, perhaps between two gates: v = b * u, then the last taps of v times the
// weights, oldest first, in one chain of fma; times c. `state` has the taps - 1 values of v before this row, oldest first,
// and is moved on by one. A column is a lane.
template <bool kGated>
inline void short_conv_lanes(const ShortConvArgs& a, int64_t k, int lanes) {
  const int64_t older = a.taps - 1;
  const auto weight = [&](int64_t tap) { return load_first(a.w + tap * a.w_stride + k, lanes); };
  F32 v = load_first(a.u + k, lanes);
  if constexpr (kGated) v = load_first(a.b + k, lanes) * v;
  F32 sum = weight(0) * (older ? load_first(a.state + k, lanes) : v);
  for (int64_t tap = 1; tap < a.taps; ++tap) {
    const F32 next = tap < older ? load_first(a.state + tap * a.stride + k, lanes) : v;
    sum = fma(weight(tap), next, sum);
    store_first(a.state + (tap - 1) * a.stride + k, next, lanes);
  }
  if constexpr (kGated) sum = load_first(a.c + k, lanes) * sum;
  store_first(a.y + k, sum, lanes);
}

template <bool kGated>
inline void short_conv_of(const ShortConvArgs& a) {
  int64_t k = 0;
  for (; k + 16 <= a.cols; k += 16) short_conv_lanes<kGated>(a, k, 16);
  if (k < a.cols) short_conv_lanes<kGated>(a, k, static_cast<int>(a.cols - k));
}

inline void short_conv(const ShortConvArgs& a) { a.b ? short_conv_of<true>(a) : short_conv_of<false>(a); }
