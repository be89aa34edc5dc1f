// The tensors of a model as the kernels want them.
#pragma once
#include <stdint.h>

#include <functional>
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
  bool packed = false;         // the data lie as the kernel wants them
  bool mapped = false;         // the data are unpacked, in a mapped file
  int64_t matrices = 1;        // a stack has one for each expert
  int64_t stride = 0;          // bytes from one of them to the next

  // One matrix of a stack.
  Weight at(int64_t i) const {
    Weight one = *this;
    one.data += i * stride, one.matrices = 1;
    return one;
  }
};

// Bytes of a matrix once it is packed for its kernel.
int64_t packed_bytes(const KernelTable& table, Format format, int64_t rows, int64_t cols);

class Weights {
 public:
  explicit Weights(const KernelTable& table) : table_(table) {}

  // Each returns the weight's index. `data` of raw() must outlive this object, that of matrix() and stack() at least until
  // pack(); vector() copies. `mapped`: the data are those of a mapped file, whose pages pack() releases as it goes.
  int matrix(Format format, int64_t rows, int64_t cols, const uint8_t* data, bool mapped = false);
  // `matrices` of equal shape, which begin `stride` bytes apart. Each is packed by itself.
  int stack(Format format, int64_t matrices, int64_t rows, int64_t cols, int64_t stride, const uint8_t* data,
            bool mapped = false);
  int raw(Format format, int64_t rows, int64_t cols, const uint8_t* data);
  int vector(const float* data, int64_t cols);

  // Packs the matrices that are not packed yet, all in one run of the team and into one buffer. `interrupted` gets the
  // bytes done every few milliseconds; once it says true the matrices are left as they were. Returns whether all are
  // packed.
  bool pack(ThreadTeam& team, const std::function<bool(int64_t bytes)>& interrupted = {});

  const KernelTable& table() const { return table_; }
  const std::vector<Weight>& all() const { return weights_; }

 private:
  int add(const Weight& weight);

  const KernelTable& table_;
  std::vector<Weight> weights_;
  std::vector<Buffer> buffers_;
};

}  // namespace llamaq
