// Sums of squares of what a matrix product reads, by column: what importance matrices are made of.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

constexpr int64_t kSquareColumns = 64;  // columns that a worker takes at once

struct Squares {              // the sums of one op
  std::vector<double> sums;   // [matrices][columns]; empty where the op is no product
  std::vector<int64_t> rows;  // [matrices]: those of a stack, otherwise one
};

}  // namespace llamaq
