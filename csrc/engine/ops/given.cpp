// given: columns of the rows of floats that the step has in the place of tokens.
#include <algorithm>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Given final : Op {
  int out, cols, first, width;

  explicit Given(Attributes& a)
      : out(a.integers("outs", 1)[0]), cols(a.integer("cols")), first(a.integer("first")), width(a.integer("width")) {}

  void check(Resources& r) override {
    if (cols <= 0 || cols > r.cols(out) || first < 0 || first > width - cols) throw Error("the rows exceed a slot");
  }

  void check_step(const Step& step) const override {
    if (step.given_cols != width || *std::max_element(step.tokens, step.tokens + step.rows) >= 0)
      throw Error("a step needs rows of " + std::to_string(width) + " floats in the place of all tokens");
  }

  void run(const Call& call) const override {
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      std::copy_n(call.step.given + int64_t{-1 - call.step.tokens[i]} * width + first, cols,
                  call.r.slot(out) + int64_t{i} * cols);
  }
};

}  // namespace

std::unique_ptr<Op> parse_given(Attributes& a) { return std::make_unique<Given>(a); }

}  // namespace llamaq
