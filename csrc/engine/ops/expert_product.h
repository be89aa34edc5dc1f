// What ops of experts and head_linear share: a step's rows sorted by the expert that each goes to, and the product of an
// expert's rows with its matrix of a stack. The kernels are those of other matrices, so a row's bits are as alone.
#pragma once
#include <vector>

#include "engine/op.h"
#include "engine/ops/product.h"

namespace llamaq {

class ExpertProduct {
 public:
  // Reads the attributes ins (x, then the routing), weights (stacks), biases and used (the experts of a row).
  // `own_rows`: x has a row for each pair of a row and one of its experts, [rows][used][cols], otherwise [rows][cols].
  ExpertProduct(Attributes& a, bool own_rows);
  // A stack with a matrix for each head, whose part of x begins `stride` floats behind that of the one before.
  ExpertProduct(Attributes& a, int heads, int stride);

  // The pairs of a row and one of its experts, by expert, then by row, and what the kernels read of them.
  struct Rows {
    int experts;            // so many have rows
    const int* ids;         // [experts], ascending
    const int* first;       // [experts + 1], into the pairs
    const int* pairs;       // row * used + rank
    const int64_t* at;      // [experts]: bytes from `blocks`
    const uint8_t* blocks;  // QuantBlocks or Bf16Blocks
    const float* floats;    // [pairs][cols], where a stack wants them
    bool bf16;
  };

  // Throws Error where the stacks do not fit the input and each other.
  void check(Resources& r) const;
  int64_t experts(const Resources& r) const { return r.weight(stacks[0].weight).matrices; }
  int64_t cols(const Resources& r) const { return r.weight(stacks[0].weight).cols; }
  int64_t rows(const Resources& r) const { return r.weight(stacks[0].weight).rows; }

  // The op may take more of it, from `own` and `shared` on.
  Scratch scratch(const Resources& r) const;

  // Sorts the rows and makes what the kernels read of them, with `weighted` times the weight of each pair.
  Rows prepare(const Call& call, bool weighted) const;
  // y[i][0 .. end-begin) = rows begin .. end of a matrix of expert `ids[n]` times its rows `first` (a multiple of 16) and
  // the `count - 1` next (up to the last, or a multiple of 16 in all), plus the bias.
  void project(const Projection& stack, const Rows& rows, int n, int first, int count, const Call& call, int64_t begin,
               int64_t end, float* y, int64_t stride) const;

  int in, routing, used;
  std::vector<Projection> stacks;

 private:
  // Where scratch has the sorted pairs, each worker's inputs of a row and packed rows, then the shared inputs.
  struct Layout {
    int64_t ids, first, at, pairs, own_blocks, own_floats, own_scaled, own_packed, own_end, shared_floats, shared_end;
  };
  Layout layout(const Resources& r) const;
  Rows sorted(const Call& call, const Layout& l) const;
  void lower_rows(const Rows& rows, const Call& call, bool weighted) const;  // the products with A of adapters
  void add_squares(const Rows& rows, const Call& call, bool weighted) const;
  bool any(const Resources& r, bool quantized) const;  // whether a stack is multiplied with such inputs
  int64_t block_bytes(const Resources& r, int64_t rows, bool bf16) const;

  const float* row(const Call& call, int pair) const;  // the row of x that the pair reads

  bool own_rows_;
  int64_t stride_ = 0;  // floats from a row to the next, where it is not the number of columns
};

// Weight rows in chunks, for all experts that have rows: what workers take.
struct ExpertChunks {
  ExpertChunks(const ExpertProduct::Rows& rows, int64_t weight_rows, const Call& call)
      : weight_rows(weight_rows),
        size(chunk_rows(weight_rows * rows.experts, call)),
        each(static_cast<int>((weight_rows + size - 1) / size)),
        count(each * rows.experts) {}
  int expert(int chunk) const { return chunk / each; }
  int64_t begin(int chunk) const { return int64_t{chunk % each} * size; }
  int64_t end(int chunk) const { return begin(chunk) + size < weight_rows ? begin(chunk) + size : weight_rows; }

  int64_t weight_rows;
  int size, each, count;
};

}  // namespace llamaq
