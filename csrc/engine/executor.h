// Runs a plan with a team of threads: the ops in order, one meeting after each. It owns the arena of slots and scratch.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/thread_team.h"
#include "engine/buffer.h"
#include "engine/op.h"

namespace llamaq {

// The flat list of operations of one model over numbered buffer slots. Python traces it (llamaq/plan); it holds no token
// count, no position and no cache length: those come in the Step.
struct Plan {
  std::vector<std::unique_ptr<Op>> ops;
  std::vector<int> slot_cols;  // floats per row
  int out = -1;                // the slot of the logits, whose memory is the caller's
  std::vector<Rope> ropes;
  std::vector<std::vector<CacheLayer>> caches;  // the layers of each cache group
  std::vector<int> states;                      // floats of each layer that keeps a state
};

class Executor {
 public:
  // Checks that the plan's slots and weights fit together. `weights` and `team` must outlive this object. `fast` allows
  // bfloat16 for many rows where the level has kernels for it (docs/numerics.md).
  Executor(Plan plan, const Weights& weights, ThreadTeam& team, int max_rows, bool fast = false);

  // Computes step.logits and adds the step's tokens to the cache. Throws Error for a step that does not fit the plan,
  // Cancelled when `interrupted` said so; the cache of earlier tokens is untouched then. Threads that call it together
  // wait for each other.
  void forward(const Step& step, const std::function<bool()>& interrupted = {});

  // From now on (or no longer) every op with matrices adds up the squares of what it reads; sums begin at 0.
  void collect_squares(bool on);
  // Sums of the op of that index since collect_squares(true).
  const Squares& squares(int op) const { return squares_.at(static_cast<size_t>(op)); }

  // Ops that the step which runs is through with; any thread may ask.
  int done() const { return done_.load(std::memory_order_relaxed); }

  const Resources& resources() const { return r_; }
  int logits_cols() const { return r_.cols(out_); }
  int64_t scratch_bytes() const { return arena_.size(); }

 private:
  void check_plan();
  void check(const Step& step) const;
  void check_adapter(const Adapter& adapter) const;
  void allocate();
  void begin(const Step& step);
  void rotations(const Step& step, Worker& worker);
  void steer(int op, const Call& call);
  void capture(size_t op, const Call& call, bool left_out);

  std::mutex forward_mutex_;
  const std::vector<std::unique_ptr<Op>> ops_;
  const int out_;
  ThreadTeam& team_;
  Resources r_;
  std::atomic<int> done_{0};
  int64_t vocabulary_ = 0;  // token ids that the plan can look up
  Buffer arena_;
  bool marked_ = false;                                   // whether the step that runs marks any row
  uint8_t* shared_ = nullptr;                             // scratch of the op that runs
  std::vector<uint8_t*> own_;                             // scratch of each worker
  std::vector<Addition> additions_, selected_additions_;  // the step that runs has these
  Buffer low_;                                            // what their products with A take
  std::vector<Squares> squares_;                          // one for each op while they are collected, otherwise empty
};

}  // namespace llamaq
