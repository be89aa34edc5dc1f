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

int64_t bf16_blocks(int64_t rows, int64_t cols) {
  return (rows + kGroupRows - 1) / kGroupRows * kGroupRows * ((cols + 31) / 32);
}

void round_into_group(const KernelTable& table, const float* x, int64_t cols, int64_t i, int64_t rows,
                      Bf16Block* blocks) {
  Bf16Block* row = blocks + i / kGroupRows * bf16_blocks(kGroupRows, cols) + i % kGroupRows;
  table.bf16_row(x, cols, row);
  if (i + 1 < rows) return;
  for (int64_t left = kGroupRows - i % kGroupRows; --left > 0;)
    for (int64_t block = 0; block < (cols + 31) / 32; ++block)
      memset(row + left + block * kGroupRows, 0, sizeof(Bf16Block));
}

}  // namespace llamaq
