// embed: the row of a table for each token, times a scale.
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Embed final : Op {
  int out, table;
  float scale;

  explicit Embed(Attributes& a) : out(a.integers("outs", 1)[0]), table(a.integer("table")), scale(a.number("scale")) {}

  void check(Resources& r) override {
    if (r.checked_weight(table).cols > r.cols(out)) throw Error("the embedding is wider than its output");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const Weight& rows = r.weight(table);
    const int64_t bytes = row_bytes(rows.format, rows.cols);
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      float* y = r.slot(out) + i * rows.cols;
      r.kernels.dequantize[static_cast<int>(rows.format)](rows.data + call.step.tokens[i] * bytes, y, rows.cols);
      if (scale != 1.0f) r.kernels.scale(y, scale, rows.cols);
    }
  }

  int64_t vocabulary(const Resources& r) const override { return r.weight(table).rows; }
};

}  // namespace

std::unique_ptr<Op> parse_embed(Attributes& a) { return std::make_unique<Embed>(a); }

}  // namespace llamaq
