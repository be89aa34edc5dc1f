// linear: products with one matrix or several that read the same input, scaled and capped where the plan says so, plus the
// second input where there is one (then of one matrix).
#include <algorithm>

#include "engine/ops/ops.h"
#include "engine/ops/product.h"

namespace llamaq {

namespace {

struct Linear final : Op {
  Product product;
  std::vector<int> outs;
  int add = -1;
  float scale, softcap;  // 1 and 0: none

  explicit Linear(Attributes& a)
      : product(a),
        outs(a.integers("outs", product.projections.size())),
        scale(a.number("scale")),
        softcap(a.number("softcap")) {
    const std::vector<int> ins = a.integers("ins");
    if (ins.size() > 2 || (ins.size() == 2 && outs.size() != 1)) throw Error("a residual goes to one product");
    if (ins.size() == 2) add = ins[1];
  }

  void check(Resources& r) override {
    product.check(r);
    for (size_t i = 0; i < outs.size(); ++i)
      if (product.rows(r, i) > r.cols(outs[i])) throw Error("the weight has more rows than its output");
    if (add >= 0 && product.rows(r, 0) > r.cols(add)) throw Error("a residual needs the width of the product");
  }

  Scratch scratch(const Resources& r) const override { return product.scratch(r); }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const Product::Input input = product.prepare(call);
    int64_t total = 0;
    for (size_t i = 0; i < outs.size(); ++i) total += product.rows(r, i);
    const int per_chunk = chunk_rows(total, call);
    const auto chunks_of = [&](size_t i) { return static_cast<int>((product.rows(r, i) + per_chunk - 1) / per_chunk); };
    int chunks = 0;
    for (size_t i = 0; i < outs.size(); ++i) chunks += chunks_of(i);
    for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
      size_t i = 0;
      for (; c >= chunks_of(i); ++i) c -= chunks_of(i);
      const int64_t rows = product.rows(r, i), begin = int64_t{c} * per_chunk, end = std::min(rows, begin + per_chunk);
      float* y = r.slot(outs[i]) + begin;
      product.project(product.projections[i], input, call, begin, end, y, rows);
      for (int row = 0; row < call.rows; ++row) finish(r, row * rows + begin, y + row * rows, end - begin);
    }
  }

  // What becomes of n results, which stand `at` floats behind the begin of their slot.
  void finish(const Resources& r, int64_t at, float* y, int64_t n) const {
    if (scale != 1) r.kernels.scale(y, scale, n);
    if (softcap != 0) r.kernels.softcap(y, softcap, n);
    if (add >= 0) r.kernels.add(r.slot(add) + at, y, y, n);
  }
};

}  // namespace

std::unique_ptr<Op> parse_linear(Attributes& a) { return std::make_unique<Linear>(a); }

}  // namespace llamaq
