#include "sampling/repeats.h"

#include <algorithm>

namespace llamaq {

std::vector<int32_t> repeats(const int32_t* tokens, int64_t n) {
  std::vector<int32_t> lengths(n);
  const auto back = [=](int64_t i) { return tokens[n - 1 - i]; };
  const auto length = [&](int64_t i) -> int32_t& { return lengths[n - 1 - i]; };
  if (n > 0) length(0) = static_cast<int32_t>(n);
  int64_t begin = 0, end = 0;  // the stretch that is known to repeat and reaches farthest back
  for (int64_t i = 1; i < n; ++i) {
    int64_t same = i < end ? std::min<int64_t>(end - i, length(i - begin)) : 0;
    while (i + same < n && back(same) == back(i + same)) ++same;
    length(i) = static_cast<int32_t>(same);
    if (i + same > end) begin = i, end = i + same;
  }
  return lengths;
}

}  // namespace llamaq
