// One operation of a plan. A file of engine/ops holds all there is of it: how it is parsed from the attributes that
// Python gives it, what it refuses, the scratch that it takes, and what it does.
#pragma once
#include <memory>

#include "cpu/thread_team.h"
#include "engine/adapter.h"
#include "engine/attributes.h"
#include "engine/resources.h"
#include "engine/squares.h"
#include "engine/step.h"

namespace llamaq {

constexpr int kFastRows = 16;  // rows; numerics "fast" multiplies more of them as bfloat16

// One op of one forward, as one worker sees it.
struct Call {
  const Resources& r;
  const Step& step;
  Worker& worker;
  int rows;                                // all rows of the step, or the selected ones
  Squares* squares;                        // null where nothing is collected
  uint8_t *shared, *own;                   // scratch that all workers share, and that of this one
  const std::vector<Addition>& additions;  // what adapters add to products of these rows
  float* low;                              // room for the products of all of them with A
};

// Bytes of scratch that an op takes while it runs.
struct Scratch {
  int64_t shared = 0, own = 0;  // bytes for all workers together, and for each

  static int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }
};

class Op {
 public:
  virtual ~Op() = default;

  bool only_marked = false;  // it is left out where no row of the step is marked

  // Throws Error where slots and weights do not fit; may ask the resources for what is made once a step.
  virtual void check(Resources& r) = 0;
  virtual Scratch scratch(const Resources&) const { return {}; }
  // Throws Error for a step that it cannot run; the executor has checked what any op needs.
  virtual void check_step(const Step&) const {}
  // Every worker runs it; the executor lets them meet afterwards.
  virtual void run(const Call& call) const = 0;
  // Whether the op, and all after it, works on the rows whose logits are wanted.
  virtual bool selects() const { return false; }
  // Token ids that it can look up; 0: it looks up none.
  virtual int64_t vocabulary(const Resources&) const { return 0; }
  // Columns of what its matrices are multiplied with, for importance matrices; 0: it has none.
  virtual int64_t square_cols(const Resources&) const { return 0; }
  // How many matrices have squares of their own: those of a stack, otherwise one.
  virtual int64_t square_matrices(const Resources&) const { return 1; }
};

// Reads an op of the kind that the attributes name (engine/ops/registry.cpp). Throws Error for what there is not.
std::unique_ptr<Op> make_op(Attributes attributes);

}  // namespace llamaq
