// rms_norm: each row over the root of its mean square, times a vector.
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct RmsNorm final : Op {
  int in, out, weight;
  float eps;

  explicit RmsNorm(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        weight(a.integer("norm")),
        eps(a.number("norm_eps")) {}

  void check(Resources& r) override {
    const int64_t width = r.checked_weight(weight).cols;
    r.check_vector(weight, width);
    if (width > r.cols(in) || width > r.cols(out)) throw Error("the norm is wider than a slot");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const int64_t width = r.weight(weight).cols;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      r.kernels.rms_norm(r.slot(in) + i * width, r.vector(weight), eps, width, r.slot(out) + i * width);
  }
};

}  // namespace

std::unique_ptr<Op> parse_rms_norm(Attributes& a) { return std::make_unique<RmsNorm>(a); }

}  // namespace llamaq
