// add_given: to rows that the step gives some of their columns are added; those of tokens stay.
#include <algorithm>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct AddGiven final : Op {
  int in, out, begin, cols, width;

  explicit AddGiven(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        begin(a.integer("begin")),
        cols(a.integer("cols")),
        width(a.integer("width")) {}

  void check(Resources& r) override {
    if (begin < 0 || cols <= 0 || cols > r.cols(in) || cols > r.cols(out) || begin > width - cols)
      throw Error("the columns exceed a slot or the rows that are given");
  }

  void check_step(const Step& step) const override {
    if (step.n_given && step.given_cols != width)
      throw Error("rows given in the place of tokens need " + std::to_string(width) + " columns, got " +
                  std::to_string(step.given_cols));
  }

  void run(const Call& call) const override {
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* x = call.r.slot(in) + int64_t{i} * cols;
      float* y = call.r.slot(out) + int64_t{i} * cols;
      if (const int token = call.step.tokens[i]; token < 0)
        call.r.kernels.add(x, call.step.given + int64_t{-1 - token} * width + begin, y, cols);
      else
        std::copy_n(x, cols, y);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_add_given(Attributes& a) { return std::make_unique<AddGiven>(a); }

}  // namespace llamaq
