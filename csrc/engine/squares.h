// Sums of squares of what a matrix product reads, by column: what importance matrices are made of.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

constexpr int64_t kSquareColumns = 64;  // that a worker takes at once

struct Squares {              // of one op
  std::vector<double> sums;   // [matrices][columns]; empty where the op is no product
  std::vector<int64_t> rows;  // [matrices], which is one, or those of a stack
};

}  // namespace llamaq
