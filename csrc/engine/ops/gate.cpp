// gate: columns of one input times the activation of another.
#include "engine/activation.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Gate final : Op {
  int in, by, out, cols, first, width;
  Activation act;

  explicit Gate(Attributes& a)
      : in(a.integers("ins", 2)[0]),
        by(a.integers("ins", 2)[1]),
        out(a.integers("outs", 1)[0]),
        cols(a.integer("cols")),
        first(a.integer("first")),
        width(a.integer("width")),
        act(activation_of(a)) {}

  void check(Resources& r) override {
    if (width < 1 || first < 0 || first > cols - width) throw Error("the gate does not fit its input");
    if (cols > r.cols(in) || width > r.cols(by) || width > r.cols(out)) throw Error("the gate is wider than a slot");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const auto gated = r.kernels.glu[static_cast<int>(act)];
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      gated(r.slot(by) + int64_t{i} * width, r.slot(in) + int64_t{i} * cols + first, r.slot(out) + int64_t{i} * width,
            width);
  }
};

}  // namespace

std::unique_ptr<Op> parse_gate(Attributes& a) { return std::make_unique<Gate>(a); }

}  // namespace llamaq
