// Integer sums of one block of 32 weights in 16-bit lanes: vpmaddubsw gives sums of two products, vpaddw adds them up,
// and only the block's total goes to int32 (vpmaddwd). That is two instructions for 32 products instead of three.
//
// A lane takes 16 products of a block (8 of a half). vpaddw wraps, so only two things must fit int16: one vpmaddubsw
// (2 * 127 * 127, weights stay below 128) and the block's final lane, which the zero point has made small:
// 16 * 16 * 127 = 32512 for five bits around 16, 16 * 15 * 127 = 30480 for four bits without a zero point. Weights
// around kWideZero do not fit and take 32-bit lanes.

#include "kernels/generic/zero_point.h"

struct Sum {
  I32 v;
};  // 16-bit lanes
struct WideSum {
  I32 v;
};
struct SignedSum {
  I32 v;
};

constexpr bool kNarrowSums = true;  // a sum of five-bit weights needs a zero point to fit

inline __m256i broadcast_pair(const int16_t* p) { return broadcast4(reinterpret_cast<const int8_t*>(p)); }

template <int kZero>
inline auto start(const QuantBlock& a, int half) {
  if constexpr (kZero == kWideZero) {
    return WideSum{splat_i32(zero_sum<kZero>(a, half))};
  } else if constexpr (kZero == 0) {
    return Sum{splat_i32(0)};
  } else {
    const __m256i pairs = half == kWhole ? _mm256_add_epi16(broadcast_pair(a.pair[0]), broadcast_pair(a.pair[1]))
                                         : broadcast_pair(a.pair[half]);
    const __m256i zero = _mm256_mullo_epi16(pairs, _mm256_set1_epi16(-kZero));
    return Sum{{zero, zero}};
  }
}
inline Sum dot(Sum s, U8 w, const int8_t* a) {
  const __m256i b = broadcast4(a);
  s.v.lo = _mm256_add_epi16(s.v.lo, _mm256_maddubs_epi16(w.lo, b));
  s.v.hi = _mm256_add_epi16(s.v.hi, _mm256_maddubs_epi16(w.hi, b));
  asm("" : "+x"(s.v.lo), "+x"(s.v.hi));  // gcc would add in a tree, whose leaves the registers do not hold
  return s;
}
inline I32 total(Sum s) {
  const __m256i ones = _mm256_set1_epi16(1);
  return {_mm256_madd_epi16(s.v.lo, ones), _mm256_madd_epi16(s.v.hi, ones)};
}

inline WideSum dot(WideSum s, U8 w, const int8_t* a) { return {dot4(s.v, w, a)}; }
inline I32 total(WideSum s) { return s.v; }

inline SignedSum start_signed(const QuantBlock&) { return {splat_i32(0)}; }
inline SignedSum dot(SignedSum s, U8 w, const int8_t* a) { return {dot4_signed(s.v, w, a)}; }
inline I32 total(SignedSum s) { return s.v; }

// The zero point of the weights in a panel.
template <int kZero>
constexpr int kZeroInPanel = kZero;

// A word as panels hold it.
template <int kZero>
inline U8 panel_word(U8 w) {
  return w;
}
