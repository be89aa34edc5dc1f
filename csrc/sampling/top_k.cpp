// A vocabulary is large and k is small: the k-th greatest of the peaks is a bound that at least k logits reach, so only
// those that do are sorted.
#include "sampling/top_k.h"

#include <string.h>

#include <algorithm>
#include <functional>
#include <limits>

namespace llamaq {

float greatest(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// Ascending keys are descending numbers, then ascending positions.
static uint64_t descending_key(float x, int64_t position) {
  x += 0.0f;  // -0 is 0
  uint32_t bits;
  memcpy(&bits, &x, 4);
  const uint32_t descending = bits >> 31 ? bits : ~bits & 0x7fffffffu;
  return static_cast<uint64_t>(descending) << 32 | static_cast<uint64_t>(position);
}

void find_peaks(const float* x, int64_t n, std::vector<float>& peaks) {
  peaks.clear();
  for (int64_t at = 0; at < n; at += kPeakBlock) peaks.push_back(greatest(x + at, std::min(kPeakBlock, n - at)));
}

std::vector<int32_t> top_k(const float* x, int64_t n, int64_t k, const std::vector<float>& peaks) {
  k = std::min(k, n);
  float bound = -std::numeric_limits<float>::infinity();
  if (k > 0 && k <= static_cast<int64_t>(peaks.size())) {
    std::vector<float> sorted = peaks;
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<float>());
    bound = sorted[k - 1];
  }
  std::vector<uint64_t> keys;
  for (int64_t at = 0; at < n; at += kPeakBlock) {
    if (peaks[at / kPeakBlock] < bound) continue;
    for (int64_t i = at; i < std::min(n, at + kPeakBlock); ++i)
      if (x[i] >= bound) keys.push_back(descending_key(x[i], i));
  }
  k = std::min(k, static_cast<int64_t>(keys.size()));  // NaN reaches no bound
  if (k < static_cast<int64_t>(keys.size())) std::nth_element(keys.begin(), keys.begin() + k, keys.end());
  std::sort(keys.begin(), keys.begin() + k);
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < k; ++i) positions.push_back(static_cast<int32_t>(keys[i]));
  return positions;
}

}  // namespace llamaq
