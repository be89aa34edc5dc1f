// norm: each row, or each head of it, normed, plus the second input where there is one, times a number.
#include "engine/ops/ops.h"
#include "engine/row_norm.h"

namespace llamaq {

namespace {

struct NormOp final : Op {
  int in, out, add = -1;
  int cols, heads, factor;
  float scale;
  bool own;  // each head has weights of its own
  RowNorm norm;

  explicit NormOp(Attributes& a)
      : out(a.integers("outs", 1)[0]),
        cols(a.integer("cols")),
        heads(a.integer("heads")),
        factor(a.integer("factor", -1)),
        scale(a.number("scale")),
        own(a.integer("own") != 0),
        norm(a) {
    const std::vector<int> ins = a.integers("ins");
    if (ins.empty() || ins.size() > 2) throw Error("a norm takes a value, and at most one to add to");
    in = ins[0];
    if (ins.size() == 2) add = ins[1];
    if (!norm) throw Error("a norm needs the attribute 'norm_eps'");
  }

  void check(Resources& r) override {
    if (heads < 1 || cols % heads) throw Error("heads must share the columns");
    norm.check(r, own ? cols : cols / heads);
    if (factor >= 0) r.check_vector(factor, 1);
    if (cols <= 0 || cols > r.cols(in) || cols > r.cols(out)) throw Error("the norm is wider than a slot");
    if (add >= 0 && cols > r.cols(add)) throw Error("a residual needs the width of the norm");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const int64_t width = cols;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      float* y = r.slot(out) + i * width;
      const int64_t dim = width / heads;
      for (int64_t at = 0; at < width; at += dim) norm.apply(r, r.slot(in) + i * width + at, dim, y + at, own ? at : 0);
      if (add >= 0) r.kernels.add(r.slot(add) + i * width, y, y, width);
      if (scale != 1) r.kernels.scale(y, scale, width);
      if (factor >= 0) r.kernels.scale(y, r.vector(factor)[0], width);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_norm(Attributes& a) { return std::make_unique<NormOp>(a); }

}  // namespace llamaq
