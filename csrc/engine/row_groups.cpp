#include "engine/row_groups.h"

#include <string.h>

namespace llamaq {

int64_t group_blocks(int64_t rows, int64_t cols) {
  const int64_t rest = rows % kGroupRows;
  return (rows - rest + group_width(rest)) * (cols / 32);
}

void quantize_into_group(const KernelTable& table, const float* x, int64_t cols, int64_t i, int64_t rows,
                         QuantBlock* blocks) {
  const int64_t first = i / kGroupRows * kGroupRows;
  const int width = group_width(rows - first);
  QuantBlock* group = blocks + first * (cols / 32);
  table.quantize_row(x, cols, group + (i - first), width);
  if (i + 1 < rows) return;
  for (int64_t block = 0; block < cols / 32; ++block)
    for (int64_t row = rows - first; row < width; ++row) memset(group + block * width + row, 0, sizeof(QuantBlock));
}

}  // namespace llamaq
