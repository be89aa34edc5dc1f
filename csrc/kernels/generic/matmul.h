// y = x * W^T for quantized weights. Lanes are outputs: a tile is 16 weight rows by some rows of x, and each output sums
// its blocks in ascending order, whatever the number of rows, the thread or the instruction set.
//
// Two ways lead through a call. Group by group: 16 weight rows times up to 16 rows of x, from the packed weights, which
// wait in the cache for the next group. A small group unpacks them in registers (direct_group), a larger one a block at a
// time to the first-level cache. By panels, for more rows than most_grouped_rows(): all blocks of 16 weight rows, or as
// many as the cache holds, are unpacked to bytes and float scales first, for all groups at once. panel_tile, the level's
// micro-kernel, multiplies such blocks.
//
// What is made for each format or micro-kernel is not inlined: one copy of it is compiled, for the sake of build time.

// f(rows, first) for the tiles of a group as the level has them; rows is a constant.
template <class W, class F>
inline void each_tile(int width, const F& f) {
  constexpr int kMost = most_tile_rows<W>();
  for (int m = 0; m < width;) {
    const auto tile = [&](auto rows) {
      f(rows, m);
      m += rows;
    };
    if (kMost >= 16 && width - m >= 16)
      tile(Constant<kMost >= 16 ? 16 : 4>());
    else if (kMost >= 8 && width - m >= 8)
      tile(Constant<kMost >= 8 ? 8 : 4>());
    else
      tile(Constant<4>());
  }
}

// Unpacks the blocks of W's rows at w. (Inlined into a loop, it and the micro-kernel are slower.)
template <class W>
__attribute__((noinline)) void fill_panel(const uint8_t* w, int blocks, PanelOf<W>* panel) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  for (; blocks > 0; blocks -= kBlocks, w += kBytes, panel += kBlocks) {
    W::each(w, [&](int j, const auto& words, const auto& scales) {
      fetch_ahead<W, kGroupRows>(w + j * packed_block_bytes<W>());
      fill_block<W>(words, scales, panel + j);
    });
  }
}

// A group of x times 16 weight rows at w, a block of which at a time is unpacked for all rows of the group.
template <class W>
inline void blockwise_group(const MatmulArgs& a, const uint8_t* w, const QuantBlock* x, int rows, float* y, int lanes) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  const int width = group_width(rows);
  PanelOf<W> panel[kBlocks];
  F32 acc[kGroupRows];
  for (int m = 0; m < width; ++m) acc[m] = splat(0);
  for (int64_t left = a.cols / W::kLayout.block; left > 0; --left, w += kBytes, x += kBlocks * width) {
    fill_panel<W>(w, kBlocks, panel);
    each_tile<W>(width, [&](auto tile, int m) { panel_tile<InPanel<W>, tile>(panel, kBlocks, x + m, width, acc + m); });
  }
  for (int m = 0; m < rows; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

// 16 weight rows from `row` on times a group of x: rows [first, last).
template <class W>
inline void group(const MatmulArgs& a, int64_t row, int64_t first, int64_t last) {
  const uint8_t* const w = a.weights + row * row_size_of<W>(a);
  const QuantBlock* const x = static_cast<const QuantBlock*>(a.x) + first * (a.cols / 32);
  const int rows = static_cast<int>(last - first < kGroupRows ? last - first : kGroupRows), lanes = lanes_of(a, row);
  float* const y = a.y + first * a.y_stride + (row - a.begin);
  if (rows <= most_direct_rows<W>()) return direct_group<W>(a, w, x, rows, y, lanes);
  if constexpr (most_direct_rows<W>() < kGroupRows) blockwise_group<W>(a, w, x, rows, y, lanes);
}

// All weight rows of the call times rows [first, last) of x.
template <class W>
__attribute__((noinline)) void group_by_group(const MatmulArgs& a, int64_t first, int64_t last) {
  for (int64_t row = a.begin; row < a.end; row += 16)
    for (int64_t m = first; m < last; m += kGroupRows) group<W>(a, row, m, last);
}

// Adds a panel's blocks to the sums of a tile of x (or starts them); they wait in y meanwhile.
template <class P, int kRows>
__attribute__((noinline)) void add_panel(const MatmulArgs& a, const PanelOf<P>* panel, int blocks, const QuantBlock* x,
                                         int width, int rows, bool first, float* y, int lanes) {
  F32 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = first || m >= rows ? splat(0) : load_first(y + m * a.y_stride, lanes);
  panel_tile<P, kRows>(panel, blocks, x, width, acc);
  for (int m = 0; m < kRows && m < rows; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

constexpr int kPanelBlocks = 64;  // blocks of 32 columns: 40 KB
constexpr int kSlabRows = 128;    // rows of x that stay in the second-level cache: 512 KB with the columns of a panel

// All weight rows of the call times a slab of x: rows [first, last), whole groups but for the end, blocks [begin, end).
template <class W>
inline void slab(const MatmulArgs& a, int64_t first, int64_t last, int begin, int end) {
  alignas(64) PanelOf<W> panel[kPanelBlocks];
  for (int64_t row = a.begin; row < a.end; row += 16) {
    fill_panel<W>(a.weights + row * row_size_of<W>(a) + begin * packed_block_bytes<W>(), end - begin, panel);
    for (int64_t m = first; m < last; m += kGroupRows) {
      const int rows = static_cast<int>(last - m < kGroupRows ? last - m : kGroupRows), width = group_width(rows);
      const QuantBlock* x = static_cast<const QuantBlock*>(a.x) + m * (a.cols / 32) + begin * width;
      float* const y = a.y + m * a.y_stride + (row - a.begin);
      each_tile<W>(width, [&](auto tile, int i) {
        add_panel<InPanel<W>, tile>(a, panel, end - begin, x + i, width, rows - i, begin == 0, y + i * a.y_stride,
                                    lanes_of(a, row));
      });
    }
  }
}

// The last group goes alone where nothing shares its panel, or if it is one row, which micro-kernels do not know.
template <class W>
inline void by_panels(const MatmulArgs& a) {
  const int64_t end = a.m % kGroupRows == 1 ? a.m - 1 : a.m;
  const int blocks = static_cast<int>(a.cols / 32);
  int64_t m = 0;
  for (; end - m > kGroupRows; m += kSlabRows)
    for (int block = 0; block < blocks; block += kPanelBlocks)
      slab<W>(a, m, end - m < kSlabRows ? end : m + kSlabRows, block,
              blocks - block < kPanelBlocks ? blocks : block + kPanelBlocks);
  group_by_group<W>(a, m < end ? m : end, a.m);
}

template <class W>
inline void matmul_quantized(const MatmulArgs& a) {
  if (a.m > most_grouped_rows<W>()) return by_panels<W>(a);
  const int64_t rows = a.cols / 32 > kPanelBlocks ? kSlabRows / 2 : kSlabRows;  // a slab has all columns then
  for (int64_t m = 0; m < a.m; m += rows) group_by_group<W>(a, m, a.m - m < rows ? a.m : m + rows);
}
