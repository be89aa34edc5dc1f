// standardize: each row times a number, less a vector, times another.
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Standardize final : Op {
  int in, out, cols, less, factor;
  float scale;

  explicit Standardize(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        cols(a.integer("cols")),
        less(a.integer("less")),
        factor(a.integer("factor")),
        scale(a.number("scale")) {}

  void check(Resources& r) override {
    if (cols <= 0 || cols > r.cols(in) || cols > r.cols(out)) throw Error("the rows exceed a slot");
    for (const int vector : {less, factor}) r.check_vector(vector, cols);
  }

  void run(const Call& call) const override {
    const int64_t width = cols;
    const float *b = call.r.vector(less), *f = call.r.vector(factor);
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* x = call.r.slot(in) + i * width;
      float* y = call.r.slot(out) + i * width;
      for (int64_t c = 0; c < width; ++c) y[c] = (x[c] * scale - b[c]) * f[c];
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_standardize(Attributes& a) { return std::make_unique<Standardize>(a); }

}  // namespace llamaq
