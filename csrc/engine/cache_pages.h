// Bytes of the pages of the key-value cache.
#pragma once
#include <string>

#include "core/error.h"
#include "core/format.h"
#include "kernels/table.h"

namespace llamaq {

constexpr int kTileQueries = 48;  // rows times heads of a tile, which share one pass over the pages

// One page: 32 tokens of one KV head of one layer, K and V (no V where value_dim is 0). Throws Error where heads do not fill blocks of the format.
inline int64_t page_bytes(int head_dim, int value_dim, Format type) {
  if (type != Format::F32 && type != Format::F16 && type != Format::Q8_0 && type != Format::Q4_0)
    throw Error("a cache is F32, F16, Q8_0 or Q4_0, not format " + std::to_string(static_cast<int>(type)));
  const int64_t values = value_dim ? row_bytes(type, (value_dim + 15) / 16 * 16) : 0;
  return kPageTokens * (row_bytes(type, head_dim) + values);
}

}  // namespace llamaq
