// The only contract between the engine and an instruction set: a table of plain functions.
// Everything here is data or a pointer; kernel files must not pull in templates or inline functions of the library
// (a copy compiled for a newer CPU could be the one that survives linking).
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

namespace llamaq {

// 32 activations as int8 with their scale and the sums that weights with a zero point or a minimum ask for; one cache
// line, written by quantize_row and read by quantized matmuls.
struct alignas(64) QuantBlock {
  int8_t q[32];
  float d;                // amax / 127
  float d_sum;            // d * float(sum of q)
  int32_t zero8, zero16;  // -8 and -16 times the sum of q
  int32_t zero32[2];      // -32 times the sums of q[0..15] and q[16..31]
  int16_t pair[2][2];     // for each of these halves, the sums of q[i] with i % 4 in {0, 1} and in {2, 3}
};

// Quantized rows stand in groups of up to 16, and the rows of a group lie side by side, block after block: block b of
// row i of a group is at group + b * width + i. A group of more than one row is filled up with rows of zeros to a
// multiple of four.
constexpr int kGroupRows = 16;
static inline int group_width(int64_t rows) {
  return rows >= kGroupRows ? kGroupRows : static_cast<int>(rows < 2 ? rows : (rows + 3) / 4 * 4);
}

// 32 activations as bfloat16, for numerics "fast". Rows stand in groups as those above, but each group is filled up to
// 16 rows, and each row to whole blocks, with zeros.
struct alignas(64) Bf16Block {
  uint16_t x[32];
};

struct PackArgs {
  const uint8_t* src;  // GGUF rows
  uint8_t* dst;        // packed_bytes(rows, cols) bytes
  int64_t rows, cols;
  int64_t begin, end;  // groups of 16 rows to pack, of ceil(rows / 16)
};

struct MatmulArgs {
  const uint8_t* weights;  // all rows, packed
  const void* x;           // m rows: groups of QuantBlocks or of Bf16Blocks, or rows of cols floats
  int m;
  int64_t rows, cols;  // shape of the weights
  int64_t begin, end;  // weight rows of this call; begin is a multiple of 16
  float* y;            // y[i * y_stride + n - begin]
  ptrdiff_t y_stride;
};

// One weight format on one instruction set: y = x * W^T.
struct MatmulKernel {
  const char* name;      // <weights>_<activations>_<rows of x>x<rows of W>; null: absent
  bool quantized_input;  // x is QuantBlock, not float
  int64_t (*packed_bytes)(int64_t rows, int64_t cols);
  void (*pack)(const PackArgs&);
  void (*run)(const MatmulArgs&);
  void (*fast)(const MatmulArgs&) = nullptr;  // the same for Bf16Blocks, rounded otherwise; null: the level has none
};

enum class Activation { silu, gelu, gelu_erf, sigmoid, clamped, relu2, gelu_quick };
constexpr int kActivations = 7;

constexpr int kPageTokens = 32;
constexpr int kSpanTokens = 256;  // tokens of one softmax span (docs/numerics.md)

// A view of the keys and values of one sequence, for one layer and one KV head (generic/cache.h says how they lie).
struct CacheView {
  uint8_t* base;            // page 0 of this layer and head
  ptrdiff_t page_stride;    // bytes from a page to the next of the same layer and head
  const int32_t* pages;     // the sequence's page numbers
  Format type;              // format of the elements: F32, F16, Q8_0 or Q4_0
  int head_dim, value_dim;  // elements
  bool value_of_key;        // no values are stored: those of a token are the first elements of its key
};

// Rows of one sequence to put into the cache.
struct StoreArgs {
  CacheView cache;
  const int32_t* positions;  // [rows]
  int rows;
  const float *k, *v;  // row i begins i strides of floats later; values that are parts of keys: null
  ptrdiff_t k_stride, v_stride;
};

// The first token that a query at `position` sees: those of its window and of its chunk (0: no limit).
static inline int first_seen(int position, int window, int chunk) {
  const int in_window = window && position >= window ? position - window + 1 : 0;
  const int in_chunk = chunk ? position - position % chunk : 0;
  return in_window > in_chunk ? in_window : in_chunk;
}

// Rows of one sequence, and the query heads that share one KV head.
struct AttentionArgs {
  CacheView cache;
  const float* q;  // heads x head_dim; row i begins i * q_stride floats later
  ptrdiff_t q_stride;
  const int32_t *positions, *last;  // [rows], none below the one before; a row sees tokens first_seen() .. last
  int rows, heads, window, chunk;
  float scale, softcap;      // a scaled score s becomes softcap * tanh(s / softcap); 0: it stays
  const float* sinks;        // [heads] scores that count in the sum of exponentials only; null: none
  int first_span, end_span;  // spans to read
  float* out;                // heads x value_dim; row i begins i * out_stride floats later
  ptrdiff_t out_stride;
  float* states;   // attention_states(rows * heads, value_dim) floats that get the sums instead of `out`, or null
  float* scratch;  // attention_scratch(rows * heads, head_dim, value_dim) floats
};

// Merges the states of spans 1 .. spans, which lie span_stride floats apart, in ascending order into those in front.
struct MergeArgs {
  float* states;
  ptrdiff_t span_stride;
  int spans, rows, heads, value_dim;
  const float* sinks;  // as in AttentionArgs
  float* out;          // as in AttentionArgs; null where more spans will follow
  ptrdiff_t out_stride;
};

// One row of a convolution: gates b and c (null: there are none) and the values u, weights [taps] and the state [taps - 1],
// whose rows lie `w_stride` and `stride` floats apart.
struct ShortConvArgs {
  const float *b, *c, *u, *w;
  ptrdiff_t w_stride;
  int64_t taps, cols;
  float* state;
  ptrdiff_t stride;
  float* y;  // [cols]
};

// One token of one head of a gated delta net: its matrix of the past, [key_dim][value_dim], before and after.
struct DeltaArgs {
  const float* before;  // may be `after`
  float* after;
  const float *q, *k;  // [key_dim]
  const float* v;      // [value_dim]
  float decay, strength;
  int64_t key_dim, value_dim;
  float* y;  // [value_dim]
};

// One token of one head of Mamba-2: its matrix of the past, [state_dim][head_dim], before and after.
struct ScanArgs {
  const float* before;  // may be `after`
  float* after;
  const float *b, *c;  // [state_dim]
  const float* x;      // [head_dim]
  float decay, step, skip;
  int64_t state_dim, head_dim;
  float* y;  // [head_dim]
};

struct KernelTable {
  const char* isa;
  uint32_t needs;                                                                       // cpu::Feature bits
  MatmulKernel matmul[kFormatSlots];                                                    // index: GGUF type number
  void (*dequantize[kFormatSlots])(const uint8_t*, float*, int64_t n);                  // index: GGUF type number
  void (*quantize_row)(const float* x, int64_t cols, QuantBlock* out, int64_t stride);  // a block every `stride`
  void (*bf16_row)(const float* x, int64_t cols, Bf16Block* out);                       // null: no kernel is fast
  // y must not be x; a weight or a bias may be null.
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t cols, float* y);
  void (*layer_norm)(const float* x, const float* w, const float* b, float eps, int64_t cols, float* y);
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  void (*scale)(float* x, float factor, int64_t n);
  void (*softcap)(float* x, float cap, int64_t n);                                     // cap * tanh(x / cap)
  void (*activate[kActivations])(const float* x, float* y, int64_t n);                 // null: only gated
  void (*glu[kActivations])(const float* gate, const float* up, float* y, int64_t n);  // act(gate) * up
  void (*exp_row)(const float* x, float top, float* y, int64_t n);                     // exp(x - top), for x <= top
  // Rotates `heads` heads in place; neighbours are pairs (2i, 2i+1), otherwise (i, i + pairs).
  void (*rope)(float* x, int heads, int head_dim, int pairs, bool neighbours, const float* cos, const float* sin);
  void (*short_conv)(const ShortConvArgs&);
  void (*delta_net)(const DeltaArgs&);
  void (*ssm_scan)(const ScanArgs&);
  void (*store_kv)(const StoreArgs&);
  void (*attention)(const AttentionArgs&);
  void (*fast_attention)(const AttentionArgs&);  // the same, rounded otherwise; null where bf16_row is
  void (*merge_attention)(const MergeArgs&);
  int64_t (*attention_scratch)(int queries, int head_dim, int value_dim);  // floats
  int64_t (*attention_states)(int queries, int value_dim);                 // floats
  // The probe of the machine uses these (generic/probe.h).
  int32_t (*read_bytes)(const uint8_t* data, int64_t n);
  int64_t (*int8_peak)(int64_t rounds, const uint8_t* data, int32_t* sum);
};

// A level that is another one with better products. What it lacks is the other's (dispatch.cpp), whose code is compiled
// once.
struct KernelExtension {
  const char* isa;
  uint32_t needs;  // the CPU must have these, too
  const KernelTable* base;
  struct Matmul {
    const char* name;
    void (*run)(const MatmulArgs&);
    void (*fast)(const MatmulArgs&);
  } matmul[kFormatSlots];
  void (*bf16_row)(const float* x, int64_t cols, Bf16Block* out);
  void (*fast_attention)(const AttentionArgs&);
  int64_t (*attention_scratch)(int queries, int head_dim, int value_dim);
  int64_t (*int8_peak)(int64_t rounds, const uint8_t* data, int32_t* sum);
};

extern "C" {
extern const KernelTable llamaq_table_scalar;
extern const KernelTable llamaq_table_avx2;
extern const KernelExtension llamaq_table_avxvnni;
extern const KernelTable llamaq_table_avx512;
extern const KernelExtension llamaq_table_amx;
extern const KernelTable llamaq_table_neon;
extern const KernelExtension llamaq_table_neon_dotprod;
extern const KernelExtension llamaq_table_neon_i8mm;
}

}  // namespace llamaq
