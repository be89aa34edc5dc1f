// The greatest of many numbers.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

constexpr int kLanes = 16;  // numbers looked at side by side, so that the compiler may use vectors

float greatest(const float* x, int64_t n);  // no number is NaN; -infinity where n is 0

// The greatest of each block of so many numbers: whole blocks that cannot matter are passed over.
constexpr int64_t kPeakBlock = 128;
void find_peaks(const float* x, int64_t n, std::vector<float>& peaks);

// Positions of the k greatest of n numbers, none of them NaN, in descending order; equal ones by position.
std::vector<int32_t> top_k(const float* x, int64_t n, int64_t k, const std::vector<float>& peaks);

}  // namespace llamaq
