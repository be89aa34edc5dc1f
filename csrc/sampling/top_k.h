// The greatest of many numbers.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

float greatest(const float* x, int64_t n);  // of numbers, none of them NaN; -infinity of none

// Positions of the k greatest of n numbers, none of them NaN, in descending order; equal ones by position.
std::vector<int32_t> top_k(const float* x, int64_t n, int64_t k);

}  // namespace llamaq
