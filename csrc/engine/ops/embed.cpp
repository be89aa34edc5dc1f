// embed: the row of a table for each token, times a scale, or the beginning of a row that the step gives; plus the row of its
// type, and that of its position, where there are tables of such.
#include <algorithm>

#include "engine/ops/additions.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Embed final : Op {
  int out, table, types, second_after, positions;
  float scale;
  int64_t places = 0;  // positions that have a row; 0: all
  int width;           // columns of rows that are given; 0: the table's
  int given_as;        // the token whose row stands for those that are given; -1: they stand there themselves

  explicit Embed(Attributes& a)
      : out(a.integers("outs", 1)[0]),
        table(a.integer("table")),
        types(a.integer("types", -1)),
        second_after(a.integer("second_after", -1)),
        positions(a.integer("positions", -1)),
        scale(a.number("scale")),
        width(a.integer("given_cols", 0)),
        given_as(a.integer("given_as", -1)) {}

  void check(Resources& r) override {
    const int64_t cols = r.checked_weight(table).cols;
    width = width ? width : static_cast<int>(cols);
    if (width < cols) throw Error("rows that are given are no shorter than the table's");
    if (given_as >= r.weight(table).rows) throw Error("the token of rows that are given has no row");
    if (cols > r.cols(out)) throw Error("the embedding is wider than its output");
    for (const int more : {types, positions})
      if (more >= 0 && r.checked_weight(more).cols != cols) throw Error("tables of an embedding differ in width");
    if (second_after >= 0 && (types < 0 || r.weight(types).rows < 2)) throw Error("a second type needs a table of two");
    if (positions >= 0) places = r.weight(positions).rows;
  }

  void check_step(const Step& step) const override {
    if (step.n_given && given_as < 0 && step.given_cols != width)
      throw Error("rows given in the place of tokens need " + std::to_string(width) + " columns, got " +
                  std::to_string(step.given_cols));
    for (int row = 0; places && row < step.rows; ++row)
      if (step.positions[row] >= places)
        throw Error("position " + std::to_string(step.positions[row]) + " lies outside the table of " +
                    std::to_string(places) + " positions");
  }

  // A row of each further table.
  Scratch scratch(const Resources& r) const override {
    return {0, types < 0 && positions < 0 ? 0 : Scratch::lines(4 * r.weight(table).cols)};
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const int64_t cols = r.weight(table).cols;
    float* further = reinterpret_cast<float*>(call.own);
    const auto read = [&](int weight, int64_t row, float* y) {
      const Weight& rows = r.weight(weight);
      const int64_t bytes = row_bytes(rows.format, cols);
      r.kernels.dequantize[static_cast<int>(rows.format)](rows.data + row * bytes, y, cols);
    };
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      float* y = r.slot(out) + i * cols;
      const auto add = [&](int weight, int64_t row) {
        if (weight < 0) return;
        read(weight, row, further);
        for (int64_t c = 0; c < cols; ++c) y[c] += further[c];
      };
      const int id = call.step.tokens[i], token = id < 0 ? given_as : id;
      if (token < 0) {
        std::copy_n(call.step.given + int64_t{-1 - id} * width, cols, y);
      } else {
        read(table, token, y);
        if (!call.additions.empty()) add_looked_up(table, token, i, call, y);
        if (scale != 1.0f) r.kernels.scale(y, scale, cols);
      }
      add(types, type(call.step, i));
      add(positions, call.step.positions[i]);
    }
  }

  // Rows behind the first token `second_after` of their text are of type 1; a text's rows stand together.
  int type(const Step& step, int row) const {
    if (second_after < 0) return 0;
    for (int i = row - 1; i >= 0 && step.sequences[i] == step.sequences[row]; --i)
      if (step.tokens[i] == second_after) return 1;
    return 0;
  }

  int64_t vocabulary(const Resources& r) const override { return r.weight(table).rows; }
};

}  // namespace

std::unique_ptr<Op> parse_embed(Attributes& a) { return std::make_unique<Embed>(a); }

}  // namespace llamaq
