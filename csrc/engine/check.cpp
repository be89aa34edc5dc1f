// What the executor refuses: plans whose parts do not fit, steps that would read or write outside their buffers.
#include <string>

#include "core/error.h"
#include "engine/executor.h"

namespace llamaq {

static void require(bool holds, const std::string& message) {
  if (!holds) throw Error(message);
}

namespace {

// Visits the ops of a plan and checks each against the slots and weights that it names.
struct PlanCheck {
  const Plan& plan;
  const std::vector<Weight>& weights;
  size_t index = 0;

  std::string at() const { return "plan op " + std::to_string(index) + ": "; }
  int cols(int slot) const {
    require(slot >= 0 && slot < static_cast<int>(plan.slot_cols.size()), at() + "no slot " + std::to_string(slot));
    return plan.slot_cols[static_cast<size_t>(slot)];
  }
  const Weight& weight(int i) const {
    require(i >= 0 && i < static_cast<int>(weights.size()), at() + "no weight " + std::to_string(i));
    return weights[static_cast<size_t>(i)];
  }
  // A slot may be wider than the value in it, so widths are checked as "at least".
  void vector(int i, int64_t n) const {
    if (i < 0) return;
    const Weight& w = weight(i);
    require(w.rows == 1 && w.format == Format::F32 && w.cols == n,
            at() + "a vector of " + std::to_string(n) + " floats is wanted, got " + std::to_string(w.cols));
  }
  void projection(int in, const Projection& p, bool to_slot) const {
    const Weight& w = weight(p.weight);
    require(w.kernel, at() + "the weight has no matmul kernel");
    require(w.cols <= cols(in), at() + "the weight has more columns than its input");
    if (to_slot) require(w.rows <= cols(p.out), at() + "the weight has more rows than its output");
    vector(p.bias, w.rows);
  }

  void operator()(const EmbedOp& op) const {
    require(weight(op.weight).cols <= cols(op.out), at() + "the embedding is wider than its output");
  }
  void operator()(const RmsNormOp& op) const {
    const int64_t width = weight(op.weight).cols;
    vector(op.weight, width);
    require(width <= cols(op.in) && width <= cols(op.out), at() + "the norm is wider than a slot");
  }
  void operator()(const LinearOp& op) const {
    require(!op.projections.empty(), at() + "no weights");
    const bool last = index + 1 == plan.ops.size();
    const int64_t width = weight(op.projections[0].weight).cols;
    for (const Projection& p : op.projections) {
      projection(op.in, p, !last);
      require(weight(p.weight).cols == width, at() + "the weights differ in columns");
    }
    vector(op.norm.weight, width);
    if (op.add >= 0)
      require(op.projections.size() == 1 && weight(op.projections[0].weight).rows <= cols(op.add),
              at() + "a residual needs one weight of its width");
  }
  void operator()(const GluLinearOp& op) const {
    projection(op.in, op.gate, true);
    projection(op.in, op.up, false);
    const Weight &gate = weight(op.gate.weight), &up = weight(op.up.weight);
    vector(op.norm.weight, gate.cols);
    require(gate.rows == up.rows && gate.cols == up.cols, at() + "gate and up differ in shape");
  }
  void operator()(const AttentionOp& op) const {
    require(op.kv_heads > 0 && op.heads % op.kv_heads == 0, at() + "heads must be a multiple of KV heads");
    require(op.layer >= 0 && op.layer < plan.layers && op.kv_heads <= plan.kv_heads && op.head_dim == plan.head_dim,
            at() + "the layer does not fit the cache");
    require(op.heads * op.head_dim <= cols(op.q) && op.heads * op.head_dim <= cols(op.out) &&
                op.kv_heads * op.head_dim <= cols(op.k) && op.kv_heads * op.head_dim <= cols(op.v),
            at() + "heads times head dimension exceeds a slot");
    require(op.rope < static_cast<int>(plan.ropes.size()), at() + "no such rope");
    if (op.rope >= 0)
      require(2 * plan.ropes[static_cast<size_t>(op.rope)].frequencies.size() <= static_cast<size_t>(op.head_dim),
              at() + "the rope turns more dimensions than a head has");
  }
  void operator()(const SelectRowsOp& op) const {
    require(op.cols > 0 && op.cols <= cols(op.in) && op.cols <= cols(op.out), at() + "the rows exceed a slot");
  }
};

}  // namespace

void Executor::check_plan() const {
  PlanCheck check{plan_, weights_.all()};
  for (const int c : plan_.slot_cols) require(c > 0, "a plan's slots need at least one column");
  for (const Op& op : plan_.ops) {
    std::visit(check, op);
    ++check.index;
  }
  const LinearOp* last = plan_.ops.empty() ? nullptr : std::get_if<LinearOp>(&plan_.ops.back());
  require(last && last->projections.size() == 1, "a plan ends in one linear op, whose output are the logits");
}

void Executor::check(const Step& s) const {
  require(s.rows >= 1 && s.rows <= max_rows_,
          "a step has 1 to " + std::to_string(max_rows_) + " rows, got " + std::to_string(s.rows));
  const auto embed = std::get_if<EmbedOp>(&plan_.ops.front());
  const int64_t vocabulary = embed ? weight(embed->weight).rows : 0;
  for (int i = 0; i < s.rows; ++i) {
    const std::string row = "step row " + std::to_string(i) + ": ";
    require(
        s.tokens[i] >= 0 && s.tokens[i] < vocabulary,
        row + "token " + std::to_string(s.tokens[i]) + " is outside the vocabulary of " + std::to_string(vocabulary));
    require(s.sequences[i] >= 0 && s.sequences[i] < s.n_sequences, row + "no such sequence in this step");
    require(s.positions[i] >= 0 && s.positions[i] / kPageTokens < s.pages_per_sequence,
            row + "position " + std::to_string(s.positions[i]) + " lies beyond the sequence's pages");
    const int32_t* pages = s.pages + static_cast<int64_t>(s.sequences[i]) * s.pages_per_sequence;
    for (int page = 0; page <= s.positions[i] / kPageTokens; ++page)
      require(pages[page] >= 0 && pages[page] < s.n_pages, row + "a page number is outside the cache");
  }
  require(s.n_selected >= 0 && s.n_selected <= max_rows_, "more rows selected than a step holds");
  for (int i = 0; i < s.n_selected; ++i)
    require(s.selected[i] >= 0 && s.selected[i] < s.rows, "a selected row is not in the step");
  for (const Capture& c : s.captures)
    require(c.op >= 0 && c.op < static_cast<int>(plan_.ops.size()) && c.slot >= 0 &&
                c.slot < static_cast<int>(plan_.slot_cols.size()) &&
                c.cols <= plan_.slot_cols[static_cast<size_t>(c.slot)],
            "a capture names an op or a slot that the plan does not have");
}

}  // namespace llamaq
