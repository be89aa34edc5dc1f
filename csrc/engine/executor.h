// Runs a plan with a team of threads. forward() is the whole of it: the ops in order, one sync() after each.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu/thread_team.h"
#include "engine/buffer.h"
#include "engine/plan.h"
#include "engine/squares.h"
#include "engine/weights.h"

namespace llamaq {

constexpr int kOwnRows = 4;      // up to so many rows every worker norms and quantizes for itself: no meeting needed
constexpr int kFastRows = 16;    // with more rows, numerics "fast" multiplies as bfloat16
constexpr int kChunkRows = 128;  // most weight rows that a worker takes at once
constexpr int kSpanBytes = 1 << 17;  // for each worker: states of attention's spans before they are merged

class Executor {
 public:
  // Checks that the plan's slots and weights fit together. `weights` and `team` must outlive this object. `fast` allows
  // bfloat16 for many rows where the level has kernels for it (docs/numerics.md).
  Executor(Plan plan, const Weights& weights, ThreadTeam& team, int max_rows, bool fast = false);

  // Computes step.logits and adds the step's tokens to the cache. Runs only the first `op_limit` ops where that is
  // not negative (then there are no logits). Throws Error for a step that does not fit the plan, Cancelled when
  // `interrupted` said so or the team was cancelled; the cache of earlier tokens is untouched then. Threads that call it
  // together wait for each other.
  void forward(const Step& step, const std::function<bool()>& interrupted = {}, int op_limit = -1);

  // From now on (or no longer) every linear op adds up the squares of what it reads; sums begin at 0.
  void collect_squares(bool on);
  // Sums of the op of that index since collect_squares(true).
  const Squares& squares(int op) const { return squares_.at(static_cast<size_t>(op)); }

  const Plan& plan() const { return plan_; }
  const float* slot(int index) const { return slots_.at(static_cast<size_t>(index)); }
  int64_t scratch_bytes() const { return arena_.size(); }

 private:
  struct Scratch {       // of one worker
    float* rows;         // kOwnRows normed rows
    QuantBlock* blocks;  // a group of kOwnRows quantized rows
    float* chunk;        // max_rows x kChunkRows results of `up`
    float* attention;
    uint8_t* packed;  // 16 rows of a weight that is not packed
  };
  struct Tile {  // rows of one sequence that attention reads the cache for together
    int first, rows;
  };
  struct Input {  // what the matmuls of one op read
    const float* x;
    const QuantBlock* blocks;
    const Bf16Block* bf16;  // where not null, the one that is read
  };
  struct Call {  // one op of one forward, as one worker sees it
    const Step& step;
    Worker& worker;
    int rows;          // all rows of the step, or the selected ones
    float* final;      // the caller's logits where this is the last op, otherwise null
    Squares* squares;  // null where nothing is collected
  };

  void check_plan() const;
  void check(const Step& step) const;
  void allocate();
  void rotations(const Step& step, Worker& worker);
  void capture(size_t op, const Call& call);

  int size_tiles();
  void lay_tiles(const Step& step);
  CacheView cache_view(const Step& step, int layer, int head, int sequence) const;
  AttentionArgs attention_args(const AttentionOp& op, const Call& call, const Tile& tile, int head) const;
  void put(const AttentionOp& op, const Call& call, const Tile& tile, int head);
  using Attend = void (*)(const AttentionArgs&);
  void attend_in_spans(const AttentionOp& op, const Call& call, Attend attend, int spans, int slots, int64_t states);

  void run(const EmbedOp& op, const Call& call);
  void run(const RmsNormOp& op, const Call& call);
  void run(const LinearOp& op, const Call& call);
  void run(const GluLinearOp& op, const Call& call);
  void run(const AttentionOp& op, const Call& call);
  void run(const SelectRowsOp& op, const Call& call);

  Input prepare(int in, int64_t width, const Norm& norm, bool quantized, const Call& call);
  void add_squares(const float* x, int64_t width, const Call& call);
  void project(const Projection& p, const Input& input, const Call& call, int64_t begin, int64_t end, float* y,
               int64_t stride);
  int chunk_rows(int64_t total, const Call& call) const;

  const Weight& weight(int index) const { return weights_.all()[static_cast<size_t>(index)]; }
  const float* vector(int index) const { return reinterpret_cast<const float*>(weight(index).data); }
  float* slot_data(int index) const { return slots_[static_cast<size_t>(index)]; }
  int cols(int slot) const { return plan_.slot_cols[static_cast<size_t>(slot)]; }

  std::mutex forward_mutex_;
  const Plan plan_;
  const Weights& weights_;
  const KernelTable& kernels_;
  ThreadTeam& team_;
  const int max_rows_;
  const bool fast_;
  std::vector<float*> slots_;  // max_rows x cols each
  Buffer arena_;
  std::vector<Scratch> scratch_;  // per worker
  std::vector<Squares> squares_;  // per op where they are collected, otherwise empty
  float* shared_rows_ = nullptr;  // max_rows normed rows
  QuantBlock* shared_blocks_ = nullptr;
  Bf16Block* shared_bf16_ = nullptr;
  std::vector<Tile> tiles_;  // of this step, longest first
  bool tiles_apart_ = true;  // no two tiles belong to one sequence
  int tile_rows_ = 1;        // most rows that a tile may have
  float* spans_ = nullptr;   // states of spans that several workers share
  int64_t span_floats_ = 0;
  std::vector<float*> rope_cos_, rope_sin_;  // [max_rows][pairs] for each of the plan's ropes
};

}  // namespace llamaq
