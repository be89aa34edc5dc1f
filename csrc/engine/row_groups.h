// Quantized rows of activations, in the groups that kernels/table.h describes.
#pragma once
#include <stdint.h>

#include "kernels/table.h"

namespace llamaq {

// QuantBlocks that `rows` rows take.
int64_t group_blocks(int64_t rows, int64_t cols);

// Quantizes row i of `rows` into its group. The last row also fills its group up with zeros.
void quantize_into_group(const KernelTable& table, const float* x, int64_t cols, int64_t i, int64_t rows,
                         QuantBlock* blocks);

// The same as bfloat16, for numerics "fast".
int64_t bf16_blocks(int64_t rows, int64_t cols);
void round_into_group(const KernelTable& table, const float* x, int64_t cols, int64_t i, int64_t rows,
                      Bf16Block* blocks);

}  // namespace llamaq
