// The tensors of a model as the kernels want them.
#pragma once
#include <stdint.h>

#include <vector>

#include "cpu/thread_team.h"
#include "engine/buffer.h"
#include "kernels/table.h"

namespace llamaq {

struct Weight {
  Format format;
  int64_t rows, cols;
  const uint8_t* data;         // packed, GGUF rows, or floats (a vector: rows is 1)
  const MatmulKernel* kernel;  // null for vectors and for embedding tables
};

// Bytes of a matrix once it is packed for its kernel.
int64_t packed_bytes(const KernelTable& table, Format format, int64_t rows, int64_t cols);

// Cache pages: bytes of one page (32 tokens of one KV head of one layer, K and V).
int64_t page_bytes(int head_dim, bool f16);

class Weights {
 public:
  explicit Weights(const KernelTable& table) : table_(table) {}

  // Each returns the weight's index. `data` of raw() must outlive this object; the others copy.
  int pack(Format format, int64_t rows, int64_t cols, const uint8_t* data, ThreadTeam& team);
  int raw(Format format, int64_t rows, int64_t cols, const uint8_t* data);
  int vector(const float* data, int64_t cols);

  const KernelTable& table() const { return table_; }
  const std::vector<Weight>& all() const { return weights_; }

 private:
  int add(const Weight& weight);

  const KernelTable& table_;
  std::vector<Weight> weights_;
  std::vector<Buffer> buffers_;
};

}  // namespace llamaq
