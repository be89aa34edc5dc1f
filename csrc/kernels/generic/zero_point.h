// Zero points: weights are unsigned bytes w that mean w - kZero. An integer sum starts at -kZero times the sum of the
// activations, so that w * q needs no correction.
#pragma once

constexpr int kSigned = -1;    // stands in place of a zero point: the weights are signed bytes
constexpr int kWideZero = 64;  // zero point of weights 1 .. 127, whose sums need 32 bits
constexpr int kWhole = -1;     // stands in place of half 0 or 1 of a block

// -kZero times the sum of q over half 0 or 1 of a block, or all of it.
template <int kZero>
inline int32_t zero_sum(const QuantBlock& a, int half) {
  if constexpr (kZero == 0)
    return 0;
  else if constexpr (kZero < 16)
    return half == kWhole ? a.zero8 / (8 / kZero) : a.zero32[half] / (32 / kZero);
  else
    return (half == kWhole ? a.zero16 : a.zero32[half] / 2) * (kZero / 16);
}
