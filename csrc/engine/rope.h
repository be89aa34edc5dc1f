// Angles of the rotary position embedding, in binary64 with arithmetic of our own (docs/numerics.md): no C library's
// sine decides a logit.
#pragma once
#include "engine/plan.h"

namespace llamaq {

// cos and sin of position * frequency for each pair, times the attention factor, rounded to binary32.
void rotation(const Rope& rope, int position, float* cos, float* sin);

}  // namespace llamaq
