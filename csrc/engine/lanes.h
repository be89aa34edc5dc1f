// Sums of floats in the order of docs/numerics.md, for the few that no kernel makes.
#pragma once
#include <stdint.h>

namespace llamaq {

// The sum of f(0) .. f(n - 1) in 16 lanes and one tree.
template <class F>
inline float lane_sum(int64_t n, const F& f) {
  float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % 16] += f(i);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

}  // namespace llamaq
