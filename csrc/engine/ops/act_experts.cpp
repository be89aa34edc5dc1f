// act_experts: for each row and each of its experts act(W * x + bias), side by side in the order of rank.
#include <algorithm>

#include "engine/activation.h"
#include "engine/ops/expert_product.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr int kSlab = 128;  // rows of an expert at once

struct ActExperts final : Op {
  ExpertProduct product;
  int out;
  Activation act;

  explicit ActExperts(Attributes& a) : product(a, false), out(a.integers("outs", 1)[0]), act(activation_of(a)) {
    if (product.stacks.size() != 1) throw Error("an activation takes one stack");
  }

  void check(Resources& r) override {
    product.check(r);
    if (product.used * product.rows(r) > r.cols(out)) throw Error("the stack has more rows than its output");
    if (!r.kernels.activate[static_cast<int>(act)]) throw Error("this activation needs a gate");
  }

  // Behind what the products take, a worker has the results of one chunk: rows of an expert lie apart in the output.
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
    const int64_t width = product.rows(r);
    const ExpertChunks chunks(rows, width, call);
    const auto activate = r.kernels.activate[static_cast<int>(act)];
    float* const part = reinterpret_cast<float*>(call.own + product.scratch(r).own);
    for (int c; (c = call.worker.next_chunk(chunks.count)) >= 0;) {
      const int n = chunks.expert(c), rows_here = rows.first[n + 1] - rows.first[n];
      const int64_t begin = chunks.begin(c), end = chunks.end(c);
      for (int first = 0; first < rows_here; first += kSlab) {
        const int count = std::min(kSlab, rows_here - first);
        product.project(product.stacks[0], rows, n, first, count, call, begin, end, part, kChunkRows);
        for (int i = 0; i < count; ++i) {
          float* y = r.slot(out) + rows.pairs[rows.first[n] + first + i] * width + begin;
          activate(part + i * kChunkRows, y, end - begin);
        }
      }
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_act_experts(Attributes& a) { return std::make_unique<ActExperts>(a); }

}  // namespace llamaq
