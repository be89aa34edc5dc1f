// Integer sums of one block of 32 weights in 32-bit lanes, for levels whose byte product takes signed weights and
// adds into int32.

#include "kernels/generic/zero_point.h"

struct Sum {
  I32 v;
};  // sums of weights 0 .. 127 start at a zero point
struct SignedSum {
  I32 v;
};  // sums of signed weights start at 0

constexpr bool kNarrowSums = false;  // a sum of five-bit weights needs no zero point to fit

template <int kZero>
inline Sum start(const QuantBlock& a, int half) {
  return {splat_i32(zero_sum<kZero>(a, half))};
}
inline Sum dot(Sum s, U8 w, const int8_t* a) { return {dot4(s.v, w, a)}; }
inline I32 total(Sum s) { return s.v; }

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
