// Angles of the rotary position embedding, in binary64 with arithmetic of our own (docs/numerics.md): no C library's
// sine decides a logit.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

struct Rope {
  std::vector<double> frequencies;  // radians per position, one for each pair of dimensions
  double attention_factor;          // multiplies cos and sin
  bool neighbours;                  // pairs (2i, 2i+1), otherwise (i, i + pairs)
  std::vector<int> axes = {};       // pair: the one of a row's three places that turns it; empty: its position
};

// cos and sin of position * frequency for each pair, times the attention factor, rounded to binary32. `places` are the
// row's three; null: each is its position.
void rotation(const Rope& rope, int position, const int32_t* places, float* cos, float* sin);

}  // namespace llamaq
