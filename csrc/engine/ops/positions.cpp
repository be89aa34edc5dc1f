// positions: the row of a table for the position of each row.
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Positions final : Op {
  int out, table;
  int64_t places = 0;

  explicit Positions(Attributes& a) : out(a.integers("outs", 1)[0]), table(a.integer("table")) {}

  void check(Resources& r) override {
    if (r.checked_weight(table).cols > r.cols(out)) throw Error("the table is wider than its output");
    places = r.weight(table).rows;
  }

  void check_step(const Step& step) const override {
    for (int row = 0; row < step.rows; ++row)
      if (step.positions[row] >= places)
        throw Error("position " + std::to_string(step.positions[row]) + " lies outside the table of " +
                    std::to_string(places) + " positions");
  }

  void run(const Call& call) const override {
    const Weight& rows = call.r.weight(table);
    const int64_t bytes = row_bytes(rows.format, rows.cols);
    const auto read = call.r.kernels.dequantize[static_cast<int>(rows.format)];
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      read(rows.data + call.step.positions[i] * bytes, call.r.slot(out) + i * rows.cols, rows.cols);
  }
};

}  // namespace

std::unique_ptr<Op> parse_positions(Attributes& a) { return std::make_unique<Positions>(a); }

}  // namespace llamaq
