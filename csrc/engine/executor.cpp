#include "engine/executor.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "engine/rope.h"
#include "engine/row_groups.h"
#include "engine/unpacked.h"

namespace llamaq {

Executor::Executor(Plan plan, const Weights& weights, ThreadTeam& team, int max_rows, bool fast)
    : plan_(std::move(plan)),
      weights_(weights),
      kernels_(weights.table()),
      team_(team),
      max_rows_(max_rows),
      fast_(fast && kernels_.bf16_row) {
  if (max_rows < 1) throw Error("an executor needs room for at least one row, got " + std::to_string(max_rows));
  check_plan();
  allocate();
}

// One arena: slots, shared rows, rotation tables and each worker's scratch, all on lines of 64 bytes.
void Executor::allocate() {
  int64_t widest = 0, offset = 0;
  int64_t most_pairs = 0;
  for (const int c : plan_.slot_cols) widest = std::max<int64_t>(widest, c);
  int64_t unpacked = 0;
  for (const Weight& w : weights_.all()) {
    widest = std::max(widest, w.kernel ? w.cols : 0);
    unpacked = std::max(unpacked, unpacked_scratch(kernels_, w));
  }
  for (const Rope& rope : plan_.ropes)
    most_pairs = std::max<int64_t>(most_pairs, static_cast<int64_t>(rope.frequencies.size()));
  const auto reserve = [&](int64_t bytes) {
    const int64_t at = offset;
    offset += (bytes + 63) / 64 * 64;
    return at;
  };
  const auto block_bytes = [&](int64_t n) {
    return group_blocks(n, widest) * static_cast<int64_t>(sizeof(QuantBlock));
  };
  std::vector<int64_t> slots, cos, sin, own;
  for (const int c : plan_.slot_cols) slots.push_back(reserve(int64_t{4} * max_rows_ * c));
  const int64_t bf16_bytes = fast_ ? bf16_blocks(max_rows_, widest) * static_cast<int64_t>(sizeof(Bf16Block)) : 0;
  const int64_t rows = reserve(4 * max_rows_ * widest);
  const int64_t blocks = reserve(std::max(block_bytes(max_rows_ + 3), bf16_bytes));  // an op needs either
  for (size_t i = 0; i < plan_.ropes.size(); ++i) {
    cos.push_back(reserve(4 * max_rows_ * most_pairs));
    sin.push_back(reserve(4 * max_rows_ * most_pairs));
  }
  const int64_t attention = 4 * kernels_.attention_scratch(size_tiles(), plan_.head_dim, plan_.head_dim);
  span_floats_ = int64_t{kSpanBytes} / 4 * team_.size();
  const int64_t spans = reserve(4 * span_floats_);
  for (int i = 0; i < team_.size(); ++i)
    for (const int64_t bytes :
         {4 * kOwnRows * widest, block_bytes(kOwnRows), int64_t{4} * max_rows_ * kChunkRows, attention, unpacked})
      own.push_back(reserve(bytes));

  arena_ = Buffer(offset);
  const auto floats = [&](int64_t at) { return reinterpret_cast<float*>(arena_.data() + at); };
  const auto quants = [&](int64_t at) { return reinterpret_cast<QuantBlock*>(arena_.data() + at); };
  for (const int64_t at : slots) slots_.push_back(floats(at));
  for (const int64_t at : cos) rope_cos_.push_back(floats(at));
  for (const int64_t at : sin) rope_sin_.push_back(floats(at));
  spans_ = floats(spans);
  shared_rows_ = floats(rows);
  shared_blocks_ = quants(blocks);
  shared_bf16_ = reinterpret_cast<Bf16Block*>(arena_.data() + blocks);
  for (size_t i = 0; i < own.size(); i += 5)
    scratch_.push_back(
        {floats(own[i]), quants(own[i + 1]), floats(own[i + 2]), floats(own[i + 3]), arena_.data() + own[i + 4]});
}

void Executor::forward(const Step& step, const std::function<bool()>& interrupted, int op_limit) {
  const std::lock_guard<std::mutex> one_at_a_time(forward_mutex_);
  check(step);
  lay_tiles(step);
  const size_t count = op_limit < 0 ? plan_.ops.size() : std::min(plan_.ops.size(), static_cast<size_t>(op_limit));
  // Every worker runs this loop; sync() is the only place where workers meet.
  const bool whole = team_.run(
      [&](Worker& worker) {
        rotations(step, worker);
        int rows = step.rows;
        for (size_t i = 0; i < count; ++i) {
          float* final = i + 1 == plan_.ops.size() ? step.logits : nullptr;
          Squares* squares = squares_.empty() ? nullptr : &squares_[i];
          if (std::holds_alternative<SelectRowsOp>(plan_.ops[i])) rows = step.n_selected;
          const Call call{step, worker, rows, final, squares};
          std::visit([&](const auto& op) { run(op, call); }, plan_.ops[i]);
          worker.sync();
          capture(i, call);
        }
      },
      interrupted);
  if (!whole) throw Cancelled();
}

void Executor::capture(size_t op, const Call& call) {
  for (const Capture& c : call.step.captures) {
    if (static_cast<size_t>(c.op) != op) continue;
    for (int row; (row = call.worker.next_chunk(call.rows)) >= 0;)
      std::copy_n(slot_data(c.slot) + int64_t{row} * c.cols, c.cols, c.out + int64_t{row} * c.cols);
    call.worker.sync();
  }
}

void Executor::collect_squares(bool on) {
  squares_.clear();
  if (!on) return;
  squares_.resize(plan_.ops.size());
  for (size_t i = 0; i < plan_.ops.size(); ++i) {
    int read = -1;
    if (const auto* op = std::get_if<LinearOp>(&plan_.ops[i])) read = op->projections[0].weight;
    if (const auto* op = std::get_if<GluLinearOp>(&plan_.ops[i])) read = op->gate.weight;
    if (read >= 0) squares_[i].sums.assign(static_cast<size_t>(weight(read).cols), 0.0);
  }
}

void Executor::rotations(const Step& step, Worker& worker) {
  for (size_t r = 0; r < plan_.ropes.size(); ++r) {
    const Rope& rope = plan_.ropes[r];
    const size_t pairs = rope.frequencies.size();
    for (int row; (row = worker.next_chunk(step.rows)) >= 0;)
      rotation(rope, step.positions[row], rope_cos_[r] + static_cast<size_t>(row) * pairs,
               rope_sin_[r] + static_cast<size_t>(row) * pairs);
    worker.sync();
  }
}

}  // namespace llamaq
