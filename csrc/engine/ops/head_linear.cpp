// head_linear: the first columns of each head times a matrix of its own; those that are left go behind the results as they
// are.
#include <string.h>

#include <algorithm>

#include "engine/ops/expert_product.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr int kSlab = 128;  // rows at once

struct HeadLinear final : Op {
  int head_dim, cols;
  ExpertProduct product;
  int out;

  explicit HeadLinear(Attributes& a)
      : head_dim(a.integer("head_dim")),
        cols(a.integer("cols")),
        product(a, a.integer("heads"), head_dim),
        out(a.integers("outs", 1)[0]) {
    if (head_dim < 1) throw Error("a head has at least one column");
  }

  int64_t out_dim(const Resources& r) const { return product.rows(r) + head_dim - product.cols(r); }

  void check(Resources& r) override {
    product.check(r);
    if (product.cols(r) != cols) throw Error("the stack has other columns than are taken of each head");
    if (product.used * out_dim(r) > r.cols(out)) throw Error("the heads are wider than the output");
  }

  // Behind what the products take, a worker has the results of one chunk.
  Scratch scratch(const Resources& r) const override {
    Scratch need = product.scratch(r);
    need.own += Scratch::lines(int64_t{4} * kSlab * kChunkRows);
    return need;
  }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }
  int64_t square_matrices(const Resources& r) const override { return product.experts(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const ExpertProduct::Rows rows = product.prepare(call, false);
    const int64_t width = product.rows(r), taken = product.cols(r), wide = out_dim(r);
    const ExpertChunks chunks(rows, width, call);
    float* const part = reinterpret_cast<float*>(call.own + product.scratch(r).own);
    for (int c; (c = call.worker.next_chunk(chunks.count)) >= 0;) {
      const int n = chunks.expert(c);
      const int64_t begin = chunks.begin(c), end = chunks.end(c);
      for (int first = 0; first < call.rows; first += kSlab) {
        const int count = std::min(kSlab, call.rows - first);
        product.project(product.stacks[0], rows, n, first, count, call, begin, end, part, kChunkRows);
        for (int i = 0; i < count; ++i) {
          const int64_t pair = rows.pairs[rows.first[n] + first + i];
          float* const y = r.slot(out) + pair * wide;
          memcpy(y + begin, part + i * kChunkRows, static_cast<size_t>(end - begin) * 4);
          if (begin == 0)
            memcpy(y + width, r.slot(product.in) + pair * head_dim + taken, static_cast<size_t>(head_dim - taken) * 4);
        }
      }
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_head_linear(Attributes& a) { return std::make_unique<HeadLinear>(a); }

}  // namespace llamaq
