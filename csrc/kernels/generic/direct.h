// Groups of up to kDirectRows rows of x: weights are unpacked in registers, anew for each tile of rows.

// kRows rows of x, `rows` of which are wanted, times 16 rows of packed weights at w. A function of its own, which has one
// copy, and whose sums GCC finds registers for.
template <class W, int kRows>
__attribute__((noinline)) void direct_tile(const MatmulArgs& a, const uint8_t* w, const QuantBlock* x, int width,
                                           int rows, float* y, int lanes) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  for (int m = 0; m < kRows && m < rows; ++m) __builtin_prefetch(y + m * a.y_stride, 1);
  F32 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = splat(0);
  for (int64_t left = a.cols / W::kLayout.block; left > 0; --left, w += kBytes, x += kBlocks * width) {
    W::each(w, [&](int j, const auto& words, const auto& scales) {
      fetch_ahead<W, kRows>(w + j * packed_block_bytes<W>());
      add_block<W, kRows>(words, scales, x + j * width, acc);
    });
  }
  for (int m = 0; m < kRows && m < rows; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

constexpr int kDirectTile = kDirectRows < 4 ? 1 : kDirectRows < 8 || kAccumulators < 16 ? 4 : 8;  // rows at once

// This does the same for a group of x.
template <class W>
inline void direct_group(const MatmulArgs& a, const uint8_t* w, const QuantBlock* x, int rows, float* y, int lanes) {
  const int width = group_width(rows);
  const auto tile = [&](auto size, int m) {
    direct_tile<W, size>(a, w, x + m, width, rows - m, y + m * a.y_stride, lanes);
  };
  if (rows == 1) return tile(Constant<1>(), 0);
  if constexpr (kDirectTile > 1) {
    if (rows == 2) return tile(Constant<2>(), 0);
    int m = 0;
    for (; m + kDirectTile <= width; m += kDirectTile) tile(Constant<kDirectTile>(), m);
    if (m < width) tile(Constant<4>(), m);
  }
}

// Groups of up to so many rows go this way: where unpacking takes long, those that are one tile.
template <class W>
constexpr int most_direct_rows() {
  return kUnpacking<W> == Unpacking::kLong ? kDirectTile : kDirectRows;
}
