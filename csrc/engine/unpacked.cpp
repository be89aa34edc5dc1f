#include "engine/unpacked.h"

#include <algorithm>

namespace llamaq {

int64_t unpacked_scratch(const KernelTable& table, const Weight& w) {
  return w.kernel && !w.packed ? packed_bytes(table, w.format, 16, w.cols) : 0;
}

void matmul_unpacked(const Weight& w, void (*run)(const MatmulArgs&), const MatmulArgs& args, uint8_t* scratch) {
  const int64_t row = row_bytes(w.format, w.cols);
  for (int64_t begin = args.begin; begin < args.end; begin += 16) {
    const int64_t rows = std::min<int64_t>(16, w.rows - begin);
    w.kernel->pack({w.data + begin * row, scratch, rows, w.cols, 0, 1});
    run({scratch, args.x, args.m, rows, w.cols, 0, rows, args.y + (begin - args.begin), args.y_stride});
  }
}

}  // namespace llamaq
