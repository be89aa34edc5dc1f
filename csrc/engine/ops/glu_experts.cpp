// glu_experts: for each row and each of its experts act(gate(x)) * up(x), side by side in the order of rank. A chunk of
// both products at a time, so that neither is written to memory whole.
#include <algorithm>

#include "engine/activation.h"
#include "engine/ops/expert_product.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr int kSlab = 128;  // rows of an expert at once

struct GluExperts final : Op {
  ExpertProduct product;
  int out;
  bool weighted_input;
  Activation act;

  explicit GluExperts(Attributes& a)
      : product(a, false),
        out(a.integers("outs", 1)[0]),
        weighted_input(a.integer("weighted_input") != 0),
        act(activation_of(a)) {
    if (product.stacks.size() != 2) throw Error("a gated product needs a gate and one more stack");
  }

  void check(Resources& r) override {
    product.check(r);
    if (product.used * product.rows(r) > r.cols(out)) throw Error("the stack has more rows than its output");
  }

  // Behind what the products take, a worker has the results of both for one chunk.
  Scratch scratch(const Resources& r) const override {
    Scratch need = product.scratch(r);
    need.own += 2 * Scratch::lines(int64_t{4} * kSlab * kChunkRows);
    return need;
  }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }
  int64_t square_matrices(const Resources& r) const override { return product.experts(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const ExpertProduct::Rows rows = product.prepare(call, weighted_input);
    const int64_t width = product.rows(r);
    const ExpertChunks chunks(rows, width, call);
    const auto glu = r.kernels.glu[static_cast<int>(act)];
    float* const gate = reinterpret_cast<float*>(call.own + product.scratch(r).own);
    float* const up = gate + kSlab * kChunkRows;
    for (int c; (c = call.worker.next_chunk(chunks.count)) >= 0;) {
      const int n = chunks.expert(c), rows_here = rows.first[n + 1] - rows.first[n];
      const int64_t begin = chunks.begin(c), end = chunks.end(c);
      for (int first = 0; first < rows_here; first += kSlab) {
        const int count = std::min(kSlab, rows_here - first);
        product.project(product.stacks[0], rows, n, first, count, call, begin, end, gate, kChunkRows);
        product.project(product.stacks[1], rows, n, first, count, call, begin, end, up, kChunkRows);
        for (int i = 0; i < count; ++i) {
          float* y = r.slot(out) + rows.pairs[rows.first[n] + first + i] * width + begin;
          glu(gate + i * kChunkRows, up + i * kChunkRows, y, end - begin);
        }
      }
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_glu_experts(Attributes& a) { return std::make_unique<GluExperts>(a); }

}  // namespace llamaq
