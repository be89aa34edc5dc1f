// Bytes of the pages of the key-value cache.
#pragma once
#include "core/format.h"
#include "kernels/table.h"

namespace llamaq {

// One page: 32 tokens of one KV head of one layer, K and V. Throws Error where heads do not fill blocks of the format.
inline int64_t page_bytes(int head_dim, Format type) {
  return kPageTokens * (row_bytes(type, head_dim) + row_bytes(type, (head_dim + 15) / 16 * 16));
}

}  // namespace llamaq
