// A plan: the flat list of operations of one model over numbered buffer slots. Python traces it (llamaq/graph.py);
// it holds no token count, no position and no cache length: those come in the Step.
#pragma once
#include <stdint.h>

#include <variant>
#include <vector>

#include "core/format.h"

namespace llamaq {

// Indices of slots and weights; -1 says "none". A slot may be wider than the value in it; a value's rows lie close
// together, at the width that its weights give it.
struct Norm {
  int weight = -1;
  float eps = 0;
};

struct Projection {  // y = x * W^T + bias
  int out = -1;
  int weight = -1;
  int bias = -1;
};

struct EmbedOp {
  int out, weight;
  float scale;
};
struct RmsNormOp {
  int in, out, weight;
  float eps;
};
struct LinearOp {
  int in;
  Norm norm;
  std::vector<Projection> projections;
  int add;
};
struct GluLinearOp {  // swiglu(gate(x), up(x)) into gate.out
  int in;
  Norm norm;
  Projection gate, up;
};
struct AttentionOp {
  int q, k, v, out, layer, heads, kv_heads, head_dim;
  float scale;
  int rope, window, chunk;  // a query sees the last `window` tokens, of its own chunk (0: all)
};
struct SelectRowsOp {
  int in, out, cols;
};

using Op = std::variant<EmbedOp, RmsNormOp, LinearOp, GluLinearOp, AttentionOp, SelectRowsOp>;

struct Rope {
  std::vector<double> frequencies;  // radians per position, one for each pair of dimensions
  double attention_factor;          // multiplies cos and sin
  bool neighbours;                  // pairs (2i, 2i+1), otherwise (i, i + pairs)
};

struct Plan {
  std::vector<Op> ops;
  std::vector<int> slot_cols;  // floats per row
  std::vector<Rope> ropes;
  int layers = 0, kv_heads = 0, head_dim = 0;  // of the cache
};

// A copy of a slot's rows as they are once that op has run: [rows of the op][cols].
struct Capture {
  int op, slot, cols;
  float* out;
};

// What one forward works on. Everything belongs to the caller.
struct Step {
  int rows = 0;
  const int32_t* tokens = nullptr;     // [rows]
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* sequences = nullptr;  // [rows], row of `pages`
  const int32_t* pages = nullptr;      // [n_sequences][pages_per_sequence]
  int n_sequences = 0, pages_per_sequence = 0;
  const int32_t* selected = nullptr;  // [n_selected] rows whose logits are wanted
  int n_selected = 0;
  uint8_t* cache = nullptr;  // [layers][n_pages][kv_heads] pages
  int n_pages = 0;
  Format cache_type = Format::F16;
  float* logits = nullptr;  // [n_selected][vocabulary]
  std::vector<Capture> captures;
};

}  // namespace llamaq
