#include "engine/weights.h"

#include <string.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "core/error.h"
#include "engine/file_pages.h"

namespace llamaq {

static const MatmulKernel& kernel_of(const KernelTable& table, Format format) {
  const MatmulKernel& kernel = table.matmul[static_cast<int>(format)];
  if (!kernel.name) throw Error("the format " + std::to_string(static_cast<int>(format)) + " has no matmul kernel");
  return kernel;
}

int64_t packed_bytes(const KernelTable& table, Format format, int64_t rows, int64_t cols) {
  row_bytes(format, cols);  // this checks the columns
  return kernel_of(table, format).packed_bytes(rows, cols);
}

// What one worker packs at a time: a few groups of 16 rows.
struct Piece {
  Weight weight;       // a matrix, or one of a stack
  int64_t begin, end;  // groups
  uint8_t* packed;     // the whole matrix
  const uint8_t* source;
  int64_t source_bytes;
};

constexpr int64_t kPieceBytes = int64_t{4} << 20;

static void add_matrix(std::vector<Piece>& pieces, const Weight& w, uint8_t* packed) {
  const int64_t groups = (w.rows + 15) / 16, row = row_bytes(w.format, w.cols);
  const int64_t step = std::max<int64_t>(1, kPieceBytes / (16 * row));
  for (int64_t begin = 0; begin < groups; begin += step) {
    const int64_t end = std::min(groups, begin + step);
    const int64_t bytes = (std::min(w.rows, end * 16) - begin * 16) * row;
    pieces.push_back({w, begin, end, packed, w.data + begin * 16 * row, bytes});
  }
}

// These bytes lie from one packed matrix of a stack to the next.
static int64_t packed_stride(const KernelTable& table, const Weight& w) {
  return (packed_bytes(table, w.format, w.rows, w.cols) + 63) / 64 * 64;
}

static void pack_piece(const Piece& p) {
  const Weight& w = p.weight;
  w.kernel->pack({w.data, p.packed, w.rows, w.cols, p.begin, p.end});
  if (w.mapped) release_pages(p.source, p.source_bytes);
}

int Weights::add(const Weight& weight) {
  weights_.push_back(weight);
  return static_cast<int>(weights_.size()) - 1;
}

int Weights::matrix(Format format, int64_t rows, int64_t cols, const uint8_t* data, bool mapped) {
  return stack(format, 1, rows, cols, 0, data, mapped);
}

int Weights::stack(Format format, int64_t matrices, int64_t rows, int64_t cols, int64_t stride, const uint8_t* data,
                   bool mapped) {
  return add({format, rows, cols, data, &kernel_of(table_, format), false, mapped, matrices, stride});
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

bool Weights::pack(ThreadTeam& team, const std::function<bool(int64_t)>& interrupted) {
  std::vector<Weight*> unpacked;
  std::vector<int64_t> offsets;
  int64_t bytes = 0;
  for (Weight& w : weights_) {
    if (!w.kernel || w.packed) continue;
    unpacked.push_back(&w);
    offsets.push_back(bytes);
    bytes += w.matrices * packed_stride(table_, w);
  }
  Buffer buffer(bytes);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < unpacked.size(); ++i)
    for (int64_t m = 0; m < unpacked[i]->matrices; ++m)
      add_matrix(pieces, unpacked[i]->at(m), buffer.data() + offsets[i] + m * packed_stride(table_, *unpacked[i]));

  std::atomic<int64_t> done{0};
  const auto job = [&](Worker& worker) {
    const size_t ahead = static_cast<size_t>(2 * worker.count());
    for (int c; (c = worker.next_chunk(static_cast<int>(pieces.size()))) >= 0;) {
      const size_t i = static_cast<size_t>(c);
      if (i + ahead < pieces.size()) will_read(pieces[i + ahead].source, pieces[i + ahead].source_bytes);
      pack_piece(pieces[i]);
      done.fetch_add(pieces[i].source_bytes, std::memory_order_relaxed);
    }
  };
  const auto poll = [&] { return interrupted && interrupted(done.load(std::memory_order_relaxed)); };
  if (!team.run(job, poll)) return false;
  for (size_t i = 0; i < unpacked.size(); ++i) {
    unpacked[i]->data = buffer.data() + offsets[i];
    unpacked[i]->stride = packed_stride(table_, *unpacked[i]);
    unpacked[i]->packed = true;
  }
  buffers_.push_back(std::move(buffer));
  return true;
}

}  // namespace llamaq
