// y = x * W^T for quantized weights. Lanes are outputs: a tile is 16 weight rows by some rows of x, and each output sums
// its blocks in ascending order, whatever the number of rows, the thread or the instruction set.
//
// One row of x reads the packed weights and unpacks them in registers: such calls wait for memory. More rows share one
// unpacking: the blocks of 16 weight rows go to a panel of bytes and float scales that stays in the cache,
// and panel_tile (the level's micro-kernel) runs over it for each tile of rows. Formats that stay GGUF rows always go
// through a panel.

inline int lanes_of(const MatmulArgs& a, int64_t row) { return a.end - row < 16 ? static_cast<int>(a.end - row) : 16; }

inline F32 load_first(const float* p, int count) {
  if (count == 16) return load(p);
  float lanes[16] = {};
  for (int i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

inline void store_first(float* p, F32 a, int count) {
  if (count == 16) return store(p, a);
  float lanes[16];
  store(lanes, a);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

template <class W>
inline void direct_row(const MatmulArgs& a, const QuantBlock* row_x, float* y) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  const int64_t blocks = a.cols / W::kLayout.block;
  for (int64_t row = a.begin; row < a.end; row += 16, y += 16) {
    const uint8_t* w = a.weights + row * blocks * W::kLayout.block_bytes;
    const QuantBlock* x = row_x;
    F32 acc = splat(0);
    for (int64_t left = blocks; left > 0; --left, w += kBytes, x += kBlocks) {
      W::each(w, [&](int j, const auto& words, const auto& scales) {
        prefetch<kBytes / kBlocks>(w + kPrefetch + j * (kBytes / kBlocks));
        add_block<W, 1>(words, scales, x + j, &acc);
      });
    }
    store_first(y, acc, lanes_of(a, row));
  }
}

// Adds a panel's blocks to the sums of one group of rows (or starts them); they wait in y meanwhile. Where the weights
// of the next panel stand `ahead`, they are fetched along the way, or memory would rest while the tile multiplies.
template <class W, int kRows>
inline void tile_rows(const MatmulArgs& a, const PanelOf<W>* panel, int blocks, const QuantBlock* x, int width,
                      int rows, bool first, float* y, int lanes, const uint8_t* ahead) {
  constexpr int kBytes = packed_block_bytes<W>();
  F32 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = first || m >= rows ? splat(0) : load_first(y + m * a.y_stride, lanes);
  if (ahead) {
    for (int block = 0; block < blocks; ++block) {
      prefetch<fetched_by_tile<W>()>(ahead + block * kBytes);
      panel_tile<W, kRows>(panel + block, 1, x + block * width, width, acc);
    }
  } else {
    panel_tile<W, kRows>(panel, blocks, x, width, acc);
  }
  for (int m = 0; m < kRows && m < rows; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

template <class W>
inline void group_rows(const MatmulArgs& a, const PanelOf<W>* panel, int blocks, const QuantBlock* x, int rows,
                       bool first, float* y, int lanes, const uint8_t* ahead) {
  constexpr int kMost = most_tile_rows<W>();
  const int width = group_width(rows);
  for (int m = 0; m < width;) {
    const auto tile = [&](auto size) {
      tile_rows<W, size>(a, panel, blocks, x + m, width, rows - m, first, y + m * a.y_stride, lanes,
                         m ? nullptr : ahead);
      m += size;
    };
    if (kMost >= 16 && width - m >= 16)
      tile(Constant<kMost >= 16 ? 16 : 4>());
    else if (kMost >= 8 && width - m >= 8)
      tile(Constant<kMost >= 8 ? 8 : 4>());
    else
      tile(Constant<4>());
  }
}

constexpr int kPanelBlocks = 64, kShortPanel = 16;  // blocks of 32 columns: 40 KB for many rows of x, 10 KB for a few
constexpr int64_t kRowBlocks = 512 * 1024 / 64;     // activation blocks that are to stay in the second-level cache

template <class W>
inline int64_t row_size_of(const MatmulArgs& a) {
  return a.cols / W::kLayout.block * W::kLayout.block_bytes;
}

// GGUF rows in a panel, weights above their zero point.
template <class W>
inline void unpack_rows(const MatmulArgs& a, int64_t row, int block, int count, PanelOf<W>* panel) {
  const int64_t row_size = row_size_of<W>(a), offset = block * 32 / W::kLayout.block * W::kLayout.block_bytes;
  fill_panel_from_rows<W>(a.weights + row * row_size + offset, row_size, lanes_of(a, row), count, panel);
}

// Where a panel's weights come from: fill() unpacks `count` blocks of 32 of 16 weight rows, from `block` on.
struct FromPacked {
  template <class W>
  static void fill(const MatmulArgs& a, int64_t row, int block, int count, PanelOf<W>* panel, bool few) {
    const int64_t offset = block * 32 / W::kLayout.block * 16 * W::kLayout.block_bytes;
    const uint8_t* w = a.weights + row * row_size_of<W>(a) + offset;
    constexpr int kBytes = packed_block_bytes<W>(), kByTile = fetched_by_tile<W>();
    if (few)
      fill_panel<W, kBytes - kByTile>(w, count, panel, count * kBytes + kByTile);
    else
      fill_panel<W, kBytes>(w, count, panel, kPrefetch);
  }
  template <class W>
  static const uint8_t* ahead(const MatmulArgs& a, int64_t row, int block) {
    return a.weights + row * row_size_of<W>(a) + block * packed_block_bytes<W>();
  }
};

struct FromRows {
  template <class W>
  static void fill(const MatmulArgs& a, int64_t row, int block, int count, PanelOf<W>* panel, bool) {
    unpack_rows<W>(a, row, block, count, panel);
    for (; count > 0; --count, ++panel)  // nothing to do on most levels
      for (uint8_t(&word)[64] : panel->words) store_u8(word, panel_word<W::kZero>(load_u8(word)));
  }
  template <class W>
  static const uint8_t* ahead(const MatmulArgs&, int64_t, int) {
    return nullptr;
  }
};

// Rows of x [first, last), whole groups but for the end, times all weight rows of the call.
template <class W, class From>
inline void panel_rows(const MatmulArgs& a, int64_t first, int64_t last) {
  alignas(64) PanelOf<W> panel[kPanelBlocks];
  const bool few = last - first <= kGroupRows;
  const int blocks = static_cast<int>(a.cols / 32), most = few ? kShortPanel : kPanelBlocks;
  for (int64_t row = a.begin; row < a.end; row += 16)
    for (int block = 0; block < blocks; block += most) {
      const int count = blocks - block < most ? blocks - block : most;
      From::template fill<W>(a, row, block, count, panel, few);
      for (int64_t m = first; m < last; m += kGroupRows) {
        const int rows = static_cast<int>(last - m < kGroupRows ? last - m : kGroupRows);
        const QuantBlock* x = static_cast<const QuantBlock*>(a.x) + m * blocks + block * group_width(rows);
        group_rows<W>(a, panel, count, x, rows, block == 0, a.y + m * a.y_stride + (row - a.begin), lanes_of(a, row),
                      few ? From::template ahead<W>(a, row, block + count) : nullptr);
      }
    }
}

// One row of x times GGUF rows; a panel holds one block.
template <class W>
inline void panel_row(const MatmulArgs& a, const QuantBlock* x, float* y) {
  constexpr int kBlocks = W::kLayout.block / 32;
  alignas(64) PanelOf<W> panel[kBlocks];
  const int blocks = static_cast<int>(a.cols / 32);
  for (int64_t row = a.begin; row < a.end; row += 16, y += 16) {
    F32 acc = splat(0);
    for (int block = 0; block < blocks; block += kBlocks) {
      unpack_rows<W>(a, row, block, kBlocks, panel);
      for (int j = 0; j < kBlocks; ++j) {
        const auto words = [&](int i) { return load_u8(panel[j].words[i]); };
        add_block<W, 1>(words, scales_of(panel[j]), x + block + j, &acc);
      }
    }
    store_first(y, acc, lanes_of(a, row));
  }
}

// All rows of x but one that is alone in its group, which is the last; returns their number.
template <class W, class From>
inline int64_t shared_rows(const MatmulArgs& a) {
  const int64_t blocks = a.cols / 32, rows = a.m % kGroupRows == 1 ? a.m - 1 : a.m;
  const int64_t fit = kRowBlocks / blocks / kGroupRows * kGroupRows;
  const int64_t step = fit < 4 * kGroupRows ? 4 * kGroupRows : fit;
  for (int64_t m = 0; m < rows; m += step) panel_rows<W, From>(a, m, rows - m < step ? rows : m + step);
  return rows;
}

template <class W>
inline void matmul_quantized(const MatmulArgs& a) {
  const int64_t m = shared_rows<W, FromPacked>(a);
  if (m < a.m) direct_row<W>(a, static_cast<const QuantBlock*>(a.x) + m * (a.cols / 32), a.y + m * a.y_stride);
}

// The same for GGUF rows.
template <class W>
inline void matmul_from_rows(const MatmulArgs& a) {
  const int64_t m = shared_rows<W, FromRows>(a);
  if (m < a.m) panel_row<W>(a, static_cast<const QuantBlock*>(a.x) + m * (a.cols / 32), a.y + m * a.y_stride);
}
