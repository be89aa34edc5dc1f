// act_linear: act(W * x + bias), of one matrix.
#include <algorithm>

#include "engine/activation.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

namespace llamaq {

namespace {

struct ActLinear final : Op {
  Product product;
  int out;
  Activation act;

  explicit ActLinear(Attributes& a) : product(a), out(a.integers("outs", 1)[0]), act(activation_of(a)) {
    if (product.projections.size() != 1) throw Error("an activation takes one matrix");
  }

  void check(Resources& r) override {
    product.check(r);
    if (product.rows(r, 0) > r.cols(out)) throw Error("the weight has more rows than its output");
    if (!r.kernels.activate[static_cast<int>(act)]) throw Error("this activation needs a gate");
  }

  Scratch scratch(const Resources& r) const override { return product.scratch(r); }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const Product::Input input = product.prepare(call);
    const int64_t rows = product.rows(r, 0);
    const int per_chunk = chunk_rows(rows, call);
    const int chunks = static_cast<int>((rows + per_chunk - 1) / per_chunk);
    const auto activate = r.kernels.activate[static_cast<int>(act)];
    for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
      const int64_t begin = int64_t{c} * per_chunk, end = std::min(rows, begin + per_chunk);
      float* y = r.slot(out) + begin;
      product.project(product.projections[0], input, call, begin, end, y, rows);
      for (int i = 0; i < call.rows; ++i) activate(y + i * rows, y + i * rows, end - begin);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_act_linear(Attributes& a) { return std::make_unique<ActLinear>(a); }

}  // namespace llamaq
