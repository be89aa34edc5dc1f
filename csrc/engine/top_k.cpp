// A vocabulary is large and k is small: the k-th greatest of the blocks' maxima is a bound that at least k logits
// reach, so only those that do are sorted.
#include "engine/top_k.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace llamaq {

constexpr int64_t kBlock = 256;
constexpr int kLanes = 16;

static float block_max(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
  for (; i < n; ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// Ascending keys are descending logits, then ascending ids.
static uint64_t key(float logit, int64_t id) {
  const float x = logit + 0.0f;  // -0 is 0
  uint32_t bits;
  memcpy(&bits, &x, 4);
  const uint32_t descending = bits >> 31 ? bits : ~bits & 0x7fffffffu;
  return static_cast<uint64_t>(descending) << 32 | static_cast<uint64_t>(id);
}

std::vector<int32_t> top_k(const float* logits, int64_t n, int64_t k) {
  k = std::min(k, n);
  std::vector<float> maxima;
  for (int64_t at = 0; at < n; at += kBlock) maxima.push_back(block_max(logits + at, std::min(kBlock, n - at)));
  float bound = -std::numeric_limits<float>::infinity();
  if (k > 0 && k <= static_cast<int64_t>(maxima.size())) {
    std::vector<float> sorted = maxima;
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<float>());
    bound = sorted[static_cast<size_t>(k - 1)];
  }
  std::vector<uint64_t> keys;
  for (int64_t at = 0; at < n; at += kBlock) {
    if (maxima[static_cast<size_t>(at / kBlock)] < bound) continue;
    for (int64_t i = at; i < std::min(n, at + kBlock); ++i)
      if (logits[i] >= bound) keys.push_back(key(logits[i], i));
  }
  if (k < static_cast<int64_t>(keys.size())) std::nth_element(keys.begin(), keys.begin() + k, keys.end());
  std::sort(keys.begin(), keys.begin() + k);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < k; ++i) ids.push_back(static_cast<int32_t>(keys[static_cast<size_t>(i)]));
  return ids;
}

double sum_exp(const float* logits, int64_t n, double top) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - top);
  return sum;
}

}  // namespace llamaq
