// What the ops of a plan share: kernels, weights, slots, and what is made once for a step.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "engine/rope.h"
#include "engine/tiles.h"
#include "engine/weights.h"
#include "kernels/table.h"

namespace llamaq {

// What a layer keeps for each token, and which tokens still see it: those of the last `window`, of the same chunk of
// positions (0: all).
struct CacheLayer {
  int kv_heads, head_dim, value_dim, window, chunk;  // value_dim 0: values are parts of the keys
};

// cos and sin of a rope for each row of a step.
struct Rotation {
  Rope rope;
  float *cos = nullptr, *sin = nullptr;  // [max_rows][pairs]

  int pairs() const { return static_cast<int>(rope.frequencies.size()); }
};

struct Resources {
  const Weights& weights;
  const KernelTable& kernels;
  const int max_rows, threads;
  const bool fast;                                    // bfloat16 is allowed for many rows
  const std::vector<int> slot_cols;                   // floats per row; a slot may be wider than the value in it
  const std::vector<std::vector<CacheLayer>> caches;  // the layers of each cache group
  const std::vector<int> states;                      // floats of each layer that keeps a state
  std::vector<float*> slots;                          // [max_rows][slot_cols]
  std::vector<Rotation> rotations;
  std::vector<Tiles> tiles;
  size_t most_projections = 1;  // products of an op that adapters may add to

  // Each throws Error where there is no such thing.
  int cols(int slot) const {
    if (slot < 0 || slot >= static_cast<int>(slot_cols.size())) throw Error("no slot " + std::to_string(slot));
    return slot_cols[static_cast<size_t>(slot)];
  }
  const Weight& checked_weight(int i) const {
    if (i < 0 || i >= static_cast<int>(weights.all().size())) throw Error("no weight " + std::to_string(i));
    return weight(i);
  }
  void check_vector(int i, int64_t n) const;

  // The number of the tiles of at most so many rows; they are laid for each step from then on.
  int tiles_of(int most_rows, bool by_time = false);

  // These are for what has been checked:
  const Weight& weight(int i) const { return weights.all()[static_cast<size_t>(i)]; }
  const float* vector(int i) const { return reinterpret_cast<const float*>(weight(i).data); }
  float* slot(int i) const { return slots[static_cast<size_t>(i)]; }
};

}  // namespace llamaq
