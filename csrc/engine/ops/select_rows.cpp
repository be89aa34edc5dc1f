// select_rows: from here on only the rows whose logits are wanted.
#include <string.h>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct SelectRows final : Op {
  int in, out, cols;

  explicit SelectRows(Attributes& a)
      : in(a.integers("ins", 1)[0]), out(a.integers("outs", 1)[0]), cols(a.integer("cols")) {}

  void check(Resources& r) override {
    if (cols <= 0 || cols > r.cols(in) || cols > r.cols(out)) throw Error("the rows exceed a slot");
  }

  void run(const Call& call) const override {
    const int64_t width = cols;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      memcpy(call.r.slot(out) + i * width, call.r.slot(in) + call.step.selected[i] * width,
             static_cast<size_t>(width) * 4);
  }

  bool selects() const override { return true; }
};

}  // namespace

std::unique_ptr<Op> parse_select_rows(Attributes& a) { return std::make_unique<SelectRows>(a); }

}  // namespace llamaq
