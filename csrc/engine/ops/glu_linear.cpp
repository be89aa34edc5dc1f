// glu_linear: act(gate(x)) * up(x), both products a chunk of rows at a time, so that neither is written to memory whole.
#include <algorithm>

#include "engine/activation.h"
#include "engine/ops/ops.h"
#include "engine/ops/product.h"

namespace llamaq {

namespace {

struct GluLinear final : Op {
  Product product;
  int out;
  Activation act;

  explicit GluLinear(Attributes& a) : product(a), out(a.integers("outs", 1)[0]), act(activation_of(a)) {
    if (product.projections.size() != 2) throw Error("a gated product needs a gate and one more matrix");
  }

  void check(Resources& r) override {
    product.check(r);
    if (product.rows(r, 0) != product.rows(r, 1)) throw Error("gate and up differ in shape");
    if (product.rows(r, 0) > r.cols(out)) throw Error("the weight has more rows than its output");
  }

  // Behind what the products take, a worker has the results of `up` for one chunk.
  Scratch scratch(const Resources& r) const override {
    Scratch need = product.scratch(r);
    need.own += Scratch::lines(int64_t{4} * r.max_rows * kChunkRows);
    return need;
  }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const Product::Input input = product.prepare(call);
    const int64_t rows = product.rows(r, 0);
    const int per_chunk = chunk_rows(rows, call);
    const int chunks = static_cast<int>((rows + per_chunk - 1) / per_chunk);
    const auto glu = r.kernels.glu[static_cast<int>(act)];
    float* up = reinterpret_cast<float*>(call.own + product.scratch(r).own);
    for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
      const int64_t begin = int64_t{c} * per_chunk, end = std::min(rows, begin + per_chunk);
      float* y = r.slot(out) + begin;
      product.project(product.projections[0], input, call, begin, end, y, rows);
      product.project(product.projections[1], input, call, begin, end, up, kChunkRows);
      for (int i = 0; i < call.rows; ++i) glu(y + i * rows, up + i * kChunkRows, y + i * rows, end - begin);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_glu_linear(Attributes& a) { return std::make_unique<GluLinear>(a); }

}  // namespace llamaq
