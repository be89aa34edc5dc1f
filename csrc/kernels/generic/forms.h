// What a block of 32 weights is to a matmul, and what it adds to an output: docs/numerics.md's table, form by form.
//
// A format is a struct W with kZero, the zero point of its unsigned weights (or kSigned), and each(w, use), which calls
// use(j, words, scales) for every block of 32 in 16 rows of packed weights: words(i) are the weights 4i .. 4i+3 of the
// 16 rows, i from 0 to 7, and the type of `scales` is the form. add_block<W, M>() multiplies them with M rows of x.

constexpr int kPrefetch = 4096;  // bytes ahead; packed groups follow one another, so the last lines are of use too

// Fetches a line of every kStep of kBytes, without a loop, to the first-level cache (3) or the second (2). It is always
// inlined: GCC drops calls of a function that does nothing but fetch.
template <int kBytes, int kLevel = 3, int kStep = 64>
__attribute__((always_inline)) inline void prefetch(const uint8_t* p) {
  __builtin_prefetch(p, 0, kLevel);
  if constexpr (kBytes > kStep) prefetch<kBytes - kStep, kLevel, kStep>(p + kStep);
}

// What it takes to unpack a word: a load, a shift and a mask; some more; or as much as several rows' products.
enum class Unpacking { kTrivial, kShort, kLong };
template <class W>
constexpr Unpacking kUnpacking = Unpacking::kShort;

struct Scaled {  // acc += scale * d * sum
  F32 scale;
};
struct WithMinimum {  // acc += minimum * d_sum, then scale * d * sum
  F32 scale, minimum;
};
struct Halves {  // acc += scale * d * (half0 * sum0 + half1 * sum1)
  F32 scale, half0, half1;
};
struct HalvesWithMinimum {  // acc += minimum * d * (min0 * s0 + min1 * s1), s the sums of x; then as Halves
  F32 scale, half0, half1, minimum, min0, min1;
};

constexpr int kZeroOfFiveBits = kNarrowSums ? 16 : 0;  // weights with a minimum are 0 .. 31

// Each output rounds its own product of weight scale and activation scale. The build that measures what this costs
// (LLAMAQ_RELAXED) leaves the product out.
inline F32 block_scale(F32 scale, const QuantBlock& x) {
#if defined(LLAMAQ_RELAXED)
  (void)x;
  return scale;
#else
  return scale * splat(x.d);
#endif
}

template <int kZero>
struct Start {
  static auto of(const QuantBlock& x) { return start<kZero>(x, kWhole); }
};
template <>
struct Start<kSigned> {
  static SignedSum of(const QuantBlock& x) { return start_signed(x); }
};

// total[m] = sum of (w - kZero) * x over the block, an exact integer
template <int kZero, int M, class Words>
inline void whole_sums(const Words& words, const QuantBlock* x, I32* totals) {
  decltype(Start<kZero>::of(*x)) sum[M];
  for (int m = 0; m < M; ++m) sum[m] = Start<kZero>::of(x[m]);
  eight_times([&](auto i) {
    const U8 w = words(i);
    for (int m = 0; m < M; ++m) sum[m] = dot(sum[m], w, x[m].q + 4 * i);
  });
  for (int m = 0; m < M; ++m) totals[m] = total(sum[m]);
}

// total[m] is the same sum over half of the block
template <int kZero, int M, class Words>
inline void half_sums(const Words& words, const QuantBlock* x, int half, I32* totals) {
  decltype(start<kZero>(*x, half)) sum[M];
  for (int m = 0; m < M; ++m) sum[m] = start<kZero>(x[m], half);
  for (int i = 4 * half; i < 4 * half + 4; ++i) {
    const U8 w = words(i);
    for (int m = 0; m < M; ++m) sum[m] = dot(sum[m], w, x[m].q + 4 * i);
  }
  for (int m = 0; m < M; ++m) totals[m] = total(sum[m]);
}

template <int M>
inline void add_scaled(F32 scale, const I32* totals, const QuantBlock* x, F32* acc) {
  for (int m = 0; m < M; ++m) acc[m] = fma(to_f32(totals[m]), block_scale(scale, x[m]), acc[m]);
}

template <class W, int M, class Words>
inline void add_block(const Words& words, const Scaled& s, const QuantBlock* x, F32* acc) {
  I32 totals[M];
  whole_sums<W::kZero, M>(words, x, totals);
  add_scaled<M>(s.scale, totals, x, acc);
}

// A sum of unsigned weights whose zero point was there to keep it small alone.
template <int kZero>
inline I32 without_zero(I32 sum, const QuantBlock& x) {
  static_assert(kZero == 0 || kZero == kZeroOfFiveBits, "a zero point of 16, or none");
  return kZero ? sum - splat_i32(x.zero16) : sum;
}

template <class W, int M, class Words>
inline void add_block(const Words& words, const WithMinimum& s, const QuantBlock* x, F32* acc) {
  I32 totals[M];
  whole_sums<W::kZero, M>(words, x, totals);
  for (int m = 0; m < M; ++m) {
    totals[m] = without_zero<W::kZero>(totals[m], x[m]);
    acc[m] = fma(s.minimum, splat(x[m].d_sum), acc[m]);
  }
  add_scaled<M>(s.scale, totals, x, acc);
}

// half0 * sum0 + half1 * sum1. All of it stays below 2^24, so binary32 holds every step exactly, and costs less than a
// product of 32-bit integers. (NVFP4's factors are fractions of four bits: its products are exact, their sum is rounded.)
template <class W, int M, class Words>
inline void add_halves(const Words& words, F32 scale, F32 half0, F32 half1, const QuantBlock* x, F32* acc) {
  F32 isum[M];
  for (int m = 0; m < M; ++m) isum[m] = splat(0);
  for (int half = 0; half < 2; ++half) {
    I32 totals[M];
    half_sums<W::kZero, M>(words, x, half, totals);
    for (int m = 0; m < M; ++m) isum[m] = fma(half ? half1 : half0, to_f32(totals[m]), isum[m]);
  }
  for (int m = 0; m < M; ++m) acc[m] = fma(isum[m], block_scale(scale, x[m]), acc[m]);
}

template <class W, int M, class Words>
inline void add_block(const Words& words, const Halves& s, const QuantBlock* x, F32* acc) {
  add_halves<W, M>(words, s.scale, s.half0, s.half1, x, acc);
}

inline F32 half_sum(const QuantBlock& x, int half) {
  return splat(static_cast<float>(x.pair[half][0] + x.pair[half][1]));
}

template <int M>
inline void add_minimums(const HalvesWithMinimum& s, const QuantBlock* x, F32* acc) {
  for (int m = 0; m < M; ++m) {
    const F32 minimums = fma(s.min1, half_sum(x[m], 1), s.min0 * half_sum(x[m], 0));
    acc[m] = fma(s.minimum, splat(x[m].d) * minimums, acc[m]);
  }
}

template <class W, int M, class Words>
inline void add_block(const Words& words, const HalvesWithMinimum& s, const QuantBlock* x, F32* acc) {
  add_minimums<M>(s, x, acc);
  add_halves<W, M>(words, s.scale, s.half0, s.half1, x, acc);
}
