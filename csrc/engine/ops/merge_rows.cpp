// merge_rows: one row of each wanted row and those behind it: their mean, or one behind the other.
#include <algorithm>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct MergeRows final : Op {
  int in, out, count, cols;
  bool join;

  explicit MergeRows(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        count(a.integer("count")),
        cols(a.integer("cols")),
        join(a.text("mode") == "join") {
    if (!join && a.text("mode") != "mean") throw Error("rows are not merged as '" + a.text("mode") + "'");
  }

  void check(Resources& r) override {
    if (cols <= 0 || count <= 0 || cols > r.cols(in) || int64_t{cols} * (join ? count : 1) > r.cols(out))
      throw Error("the rows exceed a slot");
  }

  void check_step(const Step& step) const override {
    for (int i = 0; i < step.n_selected; ++i)
      for (int j = 1; j < count; ++j)
        if (step.selected[i] + j >= step.rows ||
            step.sequences[step.selected[i] + j] != step.sequences[step.selected[i]])
          throw Error("each wanted row needs " + std::to_string(count - 1) + " rows of its sequence behind it");
  }

  void run(const Call& call) const override {
    const int64_t width = cols;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* x = call.r.slot(in) + call.step.selected[i] * width;
      float* y = call.r.slot(out) + i * width * (join ? count : 1);
      std::copy_n(x, width * (join ? count : 1), y);
      if (join) continue;
      for (int j = 1; j < count; ++j) call.r.kernels.add(y, x + j * width, y, width);
      for (int64_t c = 0; c < width; ++c) y[c] /= static_cast<float>(count);
    }
  }

  bool selects() const override { return true; }
};

}  // namespace

std::unique_ptr<Op> parse_merge_rows(Attributes& a) { return std::make_unique<MergeRows>(a); }

}  // namespace llamaq
