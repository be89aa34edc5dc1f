#include "engine/executor.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace llamaq {

static std::vector<Rotation> rotations_of(const std::vector<Rope>& ropes) {
  std::vector<Rotation> rotations;
  for (const Rope& rope : ropes) rotations.push_back({rope});
  return rotations;
}

Executor::Executor(Plan plan, const Weights& weights, ThreadTeam& team, int max_rows, bool fast)
    : ops_(std::move(plan.ops)),
      out_(plan.out),
      team_(team),
      r_{weights,
         weights.table(),
         max_rows,
         team.size(),
         fast && weights.table().bf16_row,
         plan.slot_cols,
         plan.caches,
         plan.states,
         {},
         rotations_of(plan.ropes),
         {}} {
  if (max_rows < 1) throw Error("an executor needs room for at least one row, got " + std::to_string(max_rows));
  check_plan();
  allocate();
}

// One arena: slots, rotation tables, and the scratch of the op that needs most, on lines of 64 bytes.
void Executor::allocate() {
  Scratch most;
  for (const auto& op : ops_) {
    const Scratch need = op->scratch(r_);
    most.shared = std::max(most.shared, need.shared);
    most.own = std::max(most.own, need.own);
  }
  int64_t offset = 0;
  const auto reserve = [&](int64_t bytes) {
    const int64_t at = offset;
    offset += Scratch::lines(bytes);
    return at;
  };
  std::vector<int64_t> slots, tables, own;
  for (size_t i = 0; i < r_.slot_cols.size(); ++i)
    slots.push_back(reserve(static_cast<int>(i) == out_ ? 0 : int64_t{4} * r_.max_rows * r_.slot_cols[i]));
  for (const Rotation& rotation : r_.rotations)
    for (int i = 0; i < 2; ++i) tables.push_back(reserve(int64_t{4} * r_.max_rows * rotation.pairs()));
  const int64_t shared = reserve(most.shared);
  for (int i = 0; i < team_.size(); ++i) own.push_back(reserve(most.own));

  arena_ = Buffer(offset);
  const auto floats = [&](int64_t at) { return reinterpret_cast<float*>(arena_.data() + at); };
  for (const int64_t at : slots) r_.slots.push_back(floats(at));
  for (size_t i = 0; i < r_.rotations.size(); ++i) {
    r_.rotations[i].cos = floats(tables[2 * i]);
    r_.rotations[i].sin = floats(tables[2 * i + 1]);
  }
  shared_ = arena_.data() + shared;
  for (const int64_t at : own) own_.push_back(arena_.data() + at);
}

void Executor::forward(const Step& step, const std::function<bool()>& interrupted) {
  const std::lock_guard<std::mutex> one_at_a_time(forward_mutex_);
  check(step);
  begin(step);
  // Every worker runs this loop; sync() is the only place where workers meet.
  const bool whole = team_.run(
      [&](Worker& worker) {
        rotations(step, worker);
        int rows = step.rows;
        const std::vector<Addition>* additions = &additions_;
        for (size_t i = 0; i < ops_.size(); ++i) {
          const bool left_out = ops_[i]->only_marked && !marked_;
          Squares* squares = squares_.empty() || squares_[i].sums.empty() ? nullptr : &squares_[i];
          if (ops_[i]->selects()) rows = step.n_selected, additions = &selected_additions_;
          const Call call{r_,
                          step,
                          worker,
                          rows,
                          squares,
                          shared_,
                          own_[static_cast<size_t>(worker.id())],
                          *additions,
                          low_.as<float>()};
          if (!left_out) {
            ops_[i]->run(call);
            worker.sync();
            steer(static_cast<int>(i), call);
          }
          capture(i, call, left_out);
          if (worker.id() == 0) done_.store(static_cast<int>(i) + 1, std::memory_order_relaxed);
        }
      },
      interrupted);
  if (!whole) throw Cancelled();
}

// What is made once for a step, before the workers begin.
void Executor::begin(const Step& step) {
  done_.store(0, std::memory_order_relaxed);
  r_.slots[static_cast<size_t>(out_)] = step.logits;
  for (Tiles& tiles : r_.tiles) tiles.lay(step);
  marked_ = step.marked && std::any_of(step.marked, step.marked + step.rows, [](uint8_t mark) { return mark != 0; });
  additions_ = additions_of(step, false);
  selected_additions_ = additions_of(step, true);
  int64_t floats = 0;
  for (const Addition& a : additions_)
    floats += a.rows * a.adapter->most_rank() * static_cast<int64_t>(r_.most_projections);
  if (4 * floats > low_.size()) low_ = Buffer(4 * floats);
}

// Adds the directions of adapters to what an op has made.
void Executor::steer(int op, const Call& call) {
  for (const Addition& a : call.additions) {
    const auto found = a.adapter->directions().find(op);
    if (found == a.adapter->directions().end()) continue;
    const std::vector<float>& values = found->second.values;
    for (int row; (row = call.worker.next_chunk(a.rows)) >= 0;) {
      float* x = r_.slot(found->second.slot) + (int64_t{a.first} + row) * static_cast<int64_t>(values.size());
      for (const float value : values) *x++ += static_cast<float>(a.scale * static_cast<double>(value));
    }
    call.worker.sync();
  }
}

// What an op that was left out would have made counts as zeros.
void Executor::capture(size_t op, const Call& call, bool left_out) {
  for (const Capture& c : call.step.captures) {
    if (static_cast<size_t>(c.op) != op) continue;
    for (int row; (row = call.worker.next_chunk(call.rows)) >= 0;)
      if (left_out)
        std::fill_n(c.out + int64_t{row} * c.cols, c.cols, 0.0f);
      else
        std::copy_n(r_.slot(c.slot) + int64_t{row} * c.cols, c.cols, c.out + int64_t{row} * c.cols);
    call.worker.sync();
  }
}

void Executor::collect_squares(bool on) {
  squares_.clear();
  if (!on) return;
  squares_.resize(ops_.size());
  for (size_t i = 0; i < ops_.size(); ++i) {
    const auto matrices = static_cast<size_t>(ops_[i]->square_matrices(r_));
    squares_[i].sums.assign(matrices * static_cast<size_t>(ops_[i]->square_cols(r_)), 0.0);
    squares_[i].rows.assign(matrices, 0);
  }
}

void Executor::rotations(const Step& step, Worker& worker) {
  for (const Rotation& r : r_.rotations) {
    for (int row; (row = worker.next_chunk(step.rows)) >= 0;)
      rotation(r.rope, step.positions[row], step.places ? step.places + int64_t{3} * row : nullptr,
               r.cos + int64_t{row} * r.pairs(), r.sin + int64_t{row} * r.pairs());
    worker.sync();
  }
}

}  // namespace llamaq
