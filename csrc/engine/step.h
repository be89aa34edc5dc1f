// What one forward pass works on. Everything belongs to the caller.
#pragma once
#include <stdint.h>

#include <vector>

#include "core/format.h"

namespace llamaq {

// A copy of a slot's rows as they are once that op has run: [rows of the op][cols].
struct Capture {
  int op, slot, cols;
  float* out;
};

// The keys and values of the layers of one cache group, and where those of each sequence lie.
struct CachePages {
  std::vector<uint8_t*> layers;  // [n_pages][kv_heads] pages of each layer
  int n_pages = 0;
  const int32_t* table = nullptr;  // [n_sequences][pages_per_sequence]; -1: no such page
  int pages_per_sequence = 0;
};

// What sequences keep beside the cache, in slots. A step reads one of each sequence and writes another, so that one that is
// stopped half-way leaves no trace. Where the state in the middle of a sequence's rows is wanted, too, the rows are two parts,
// and the second begins with what the first writes.
struct States {
  std::vector<float*> layers;  // [n_slots][floats] of each layer
  int n_slots = 0, n_parts = 0;
  const int32_t* before = nullptr;  // [n_parts]; -1: all zeros
  const int32_t* after = nullptr;   // [n_parts]
  const int32_t* parts = nullptr;   // [rows], numbered in the order of their first rows

  float* of(int layer, int slot, int floats) const {
    return layers[static_cast<size_t>(layer)] + int64_t{slot} * floats;
  }
};

// The keys and values of a picture for layers with cross-attention: pages of a cache, one behind the other.
struct Picture {
  const uint8_t* pages = nullptr;  // [layers][n_pages][kv_heads] pages
  int layers = 0, n_pages = 0, kv_heads = 0;
  int64_t page_bytes = 0;
  int count = 0;  // states that there are
  Format type = Format::F16;
};

class Adapter;

// An adapter that rows go through, and how much of it.
struct Adaptation {
  const Adapter* adapter;
  double scale;
};

struct Step {
  int rows = 0;
  const int32_t* tokens = nullptr;     // [rows]; -1 - i: row i of `given` in the place of a token
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* last_seen = nullptr;  // [rows] the last position that a row sees, its own or a later one
  const int32_t* places = nullptr;     // [rows][3] time, row and column that ropes with axes turn by; null: positions
  const int32_t* sequences = nullptr;  // [rows], row of the page tables
  int n_sequences = 0;
  const int32_t* selected = nullptr;  // [n_selected] rows whose logits are wanted
  int n_selected = 0;
  const float* given = nullptr;  // [n_given][given_cols]
  int n_given = 0, given_cols = 0;
  std::vector<Picture> pictures;
  std::vector<int32_t> page_numbers;  // 0, 1, ..., as many as a picture has pages
  const int32_t* seen = nullptr;      // [rows][2], begin and end of what a row sees: see the ops that look there
  const uint8_t* marked = nullptr;    // [rows], not 0: the row is marked; null: none is
  std::vector<CachePages> caches;     // one for each group of the plan
  States states;                      // empty where the plan has none
  Format cache_type = Format::F16;
  float* logits = nullptr;  // [n_selected][vocabulary]
  std::vector<Capture> captures;
  std::vector<std::vector<Adaptation>> adaptations;
  const int32_t* adapted =
      nullptr;  // [n_sequences], which of these a sequence has, -1: none; null: no sequence has any
};

}  // namespace llamaq
