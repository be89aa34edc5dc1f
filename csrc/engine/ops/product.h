// What ops with matrix products share: y = norm(x) * W^T + bias for one or more matrices of the same columns. Norms and
// quantized activations are made once for all of them.
#pragma once
#include <vector>

#include "engine/op.h"
#include "engine/row_norm.h"

namespace llamaq {

struct Projection {
  int weight, bias;  // bias -1: none
};

class Product {
 public:
  // Reads the attributes ins (x first), weights, biases, and those of a norm.
  explicit Product(Attributes& a);

  // What the products of one run read.
  struct Input {
    const float* x;
    const QuantBlock* blocks;
    const Bf16Block* bf16;  // this one is read where it is not null
  };

  // Throws Error where the matrices do not fit the input and each other.
  void check(Resources& r) const;
  int64_t cols(const Resources& r) const { return r.weight(projections[0].weight).cols; }
  int64_t rows(const Resources& r, size_t i) const { return r.weight(projections[i].weight).rows; }

  // The op may take more of each worker's scratch, from `own` on.
  Scratch scratch(const Resources& r) const;

  Input prepare(const Call& call) const;
  // y[i][0 .. end-begin) = rows begin .. end of a matrix times row i of the input, plus the bias.
  void project(const Projection& p, const Input& input, const Call& call, int64_t begin, int64_t end, float* y,
               int64_t stride) const;

  int in;
  std::vector<Projection> projections;

 private:
  struct Layout {  // bytes of scratch at which normed rows, quantized blocks and packed rows begin
    int64_t shared_blocks, shared_end, own_blocks, own_packed, own_end;
  };
  Layout layout(const Resources& r) const;

  RowNorm norm_;
};

constexpr int kChunkRows = 128;  // most weight rows that a worker takes at once

// Weight rows that a worker takes at once, of so many.
int chunk_rows(int64_t total, const Call& call);

}  // namespace llamaq
