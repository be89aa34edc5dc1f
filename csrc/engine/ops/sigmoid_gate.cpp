// sigmoid_gate: each row times a number of its own, the sigmoid of the second input's product with a vector.
#include <math.h>

#include "engine/lanes.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct SigmoidGate final : Op {
  int in, by, out, weight, cols;

  explicit SigmoidGate(Attributes& a)
      : in(a.integers("ins", 2)[0]),
        by(a.integers("ins", 2)[1]),
        out(a.integers("outs", 1)[0]),
        weight(a.integer("weight")),
        cols(a.integer("cols")) {}

  void check(Resources& r) override {
    const int64_t width = r.checked_weight(weight).cols;
    r.check_vector(weight, width);
    if (width > r.cols(by) || cols < 1 || cols > r.cols(in) || cols > r.cols(out))
      throw Error("the gate is wider than a slot");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const int64_t width = r.weight(weight).cols;
    const float* const w = r.vector(weight);
    for (int row; (row = call.worker.next_chunk(call.rows)) >= 0;) {
      const float *const g = r.slot(by) + row * width, *const x = r.slot(in) + int64_t{row} * cols;
      const float logit = lane_sum(width, [&](int64_t i) { return g[i] * w[i]; });
      const float magnitude = -fabsf(logit);
      float power;
      r.kernels.exp_row(&magnitude, 0, &power, 1);
      const float factor = (logit >= 0 ? 1.0f : power) / (1.0f + power);
      float* const y = r.slot(out) + int64_t{row} * cols;
      for (int i = 0; i < cols; ++i) y[i] = x[i] * factor;
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_sigmoid_gate(Attributes& a) { return std::make_unique<SigmoidGate>(a); }

}  // namespace llamaq
