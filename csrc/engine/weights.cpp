#include "engine/weights.h"

#include <string.h>

#include <algorithm>
#include <string>

#include "core/error.h"

namespace llamaq {

static const MatmulKernel& kernel_of(const KernelTable& table, Format format) {
  const MatmulKernel& kernel = table.matmul[static_cast<int>(format)];
  if (!kernel.name) throw Error("the format " + std::to_string(static_cast<int>(format)) + " has no matmul kernel");
  return kernel;
}

int64_t packed_bytes(const KernelTable& table, Format format, int64_t rows, int64_t cols) {
  row_bytes(format, cols);  // checks the columns
  return kernel_of(table, format).packed_bytes(rows, cols);
}

int64_t page_bytes(int head_dim, bool f16) {
  const int64_t values = (head_dim + 15) / 16 * 16;
  return (head_dim + values) * kPageTokens * (f16 ? 2 : 4);
}

int Weights::add(const Weight& weight) {
  weights_.push_back(weight);
  return static_cast<int>(weights_.size()) - 1;
}

int Weights::raw(Format format, int64_t rows, int64_t cols, const uint8_t* data) {
  return add({format, rows, cols, data, nullptr});
}

int Weights::vector(const float* data, int64_t cols) {
  Buffer buffer(cols * 4);
  memcpy(buffer.data(), data, static_cast<size_t>(cols) * 4);
  const int index = add({Format::F32, 1, cols, buffer.data(), nullptr});
  buffers_.push_back(std::move(buffer));
  return index;
}

int Weights::pack(Format format, int64_t rows, int64_t cols, const uint8_t* data, ThreadTeam& team) {
  const MatmulKernel& kernel = kernel_of(table_, format);
  Buffer buffer(packed_bytes(table_, format, rows, cols));
  if (kernel.pack) {
    const int64_t groups = (rows + 15) / 16;
    const int64_t per_chunk = std::max<int64_t>(1, groups / (team.size() * 8));
    const int chunks = static_cast<int>((groups + per_chunk - 1) / per_chunk);
    team.run([&](Worker& worker) {
      for (int c; (c = worker.next_chunk(chunks)) >= 0;)
        kernel.pack({data, buffer.data(), rows, cols, c * per_chunk, std::min(groups, (c + 1) * per_chunk)});
    });
  } else {
    memcpy(buffer.data(), data, static_cast<size_t>(rows * row_bytes(format, cols)));
  }
  const int index = add({format, rows, cols, buffer.data(), &kernel});
  buffers_.push_back(std::move(buffer));
  return index;
}

}  // namespace llamaq
