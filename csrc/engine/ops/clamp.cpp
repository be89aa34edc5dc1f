// clamp: each number, or the nearer of two bounds where it lies outside of them.
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Clamp final : Op {
  int in, out, cols;
  float low, high;

  explicit Clamp(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        cols(a.integer("cols")),
        low(a.number("low")),
        high(a.number("high")) {}

  void check(Resources& r) override {
    if (cols <= 0 || cols > r.cols(in) || cols > r.cols(out)) throw Error("the rows exceed a slot");
    if (!(low <= high)) throw Error("bounds must ascend");
  }

  void run(const Call& call) const override {
    const int64_t width = cols;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* x = call.r.slot(in) + i * width;
      float* y = call.r.slot(out) + i * width;
      for (int64_t c = 0; c < width; ++c) y[c] = x[c] < low ? low : x[c] > high ? high : x[c];
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_clamp(Attributes& a) { return std::make_unique<Clamp>(a); }

}  // namespace llamaq
