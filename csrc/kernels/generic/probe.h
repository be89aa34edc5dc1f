// What the level gets out of the machine at best, for `llamaq bench`: memory read as one stream, and int8 products from
// registers and the nearest cache. A level whose dot4 is not its cheapest product has a peak.h, which defines
// LLAMAQ_PEAK_STEP and
//   peak_step(acc, w, a)  the products, in accumulators that may hold anything and overflow;
//   kPeakOps              operations of one step: a product and its addition are two;
//   kPeakStride           bytes of `a` that it reads;
//   kPeakChains           accumulators, so many that no step waits for the one before.
#if !defined(LLAMAQ_PEAK_STEP)
constexpr int kPeakOps = 128, kPeakStride = 4, kPeakChains = 5;
inline I32 peak_step(I32 acc, U8 w, const int8_t* a) { return dot4(acc, w, a); }
#endif

// The sum of all 32-bit words, which the caller keeps small; n is a multiple of 256.
inline int32_t read_bytes(const uint8_t* data, int64_t n) {
  constexpr int kAhead = 4096;
  I32 a = splat_i32(0), b = a, c = a, d = a;
  for (int64_t i = 0; i < n; i += 256) {
    const uint8_t* p = data + i;
    for (int line = 0; line < 256; line += 64) __builtin_prefetch(p + kAhead + line);
    a = a + load_i32(p), b = b + load_i32(p + 64), c = c + load_i32(p + 128), d = d + load_i32(p + 192);
  }
  return sum((a + b) + (c + d));
}

// Accumulators one after the other: a loop over an array of them might stay one. They begin differently and no two
// steps of a round see the same activations, or the compiler would do once what is to be done often.
template <int kCount>
struct PeakChains {
  I32 acc;
  PeakChains<kCount - 1> others;
  void begin(const uint8_t* data) { acc = load_i32(data), others.begin(data + 4); }
  void step(U8 w, const int8_t* a) { acc = peak_step(acc, w, a), others.step(w, a + kPeakStride); }
  I32 all() const { return acc | others.all(); }
};
template <>
struct PeakChains<0> {
  void begin(const uint8_t*) {}
  void step(U8, const int8_t*) {}
  I32 all() const { return splat_i32(0); }
};

inline int32_t or_lanes(I32 a) {
  float lanes[16];
  store(lanes, from_bits(a));
  int32_t words[16], all = 0;
  memcpy(words, lanes, sizeof(words));
  for (const int32_t word : words) all |= word;
  return all;
}

// `data`: 4096 bytes from 0 to 15. *sum has no meaning but depends on every product. Returns the operations done.
inline int64_t int8_peak(int64_t rounds, const uint8_t* data, int32_t* sum) {
  constexpr int kStep = kPeakChains * kPeakStride > 64 ? kPeakChains * kPeakStride : 64;
  static_assert(64 + 8 * kStep <= 4096, "all activations lie in `data`");
  PeakChains<kPeakChains> chains;
  chains.begin(data);
  const U8 w = load_u8(data);
  for (int64_t i = 0; i < rounds; ++i) {
    // Other activations in every other round: products of always the same would be made before the loop.
    const int8_t* a = reinterpret_cast<const int8_t*>(data) + 64 * (i & 1);
    eight_times([&](auto k) { chains.step(w, a + kStep * k); });
  }
  *sum = or_lanes(chains.all());
  return rounds * 8 * kPeakChains * kPeakOps;
}
