// y = x * W^T for quantized weights. Lanes are outputs: a tile is 16 weight rows by some rows of x, and each output sums
// its blocks in ascending order, whatever the number of rows, the thread or the instruction set.
//
// A few rows of x read the packed weights and unpack them in registers: such calls wait for memory. More rows share one
// unpacking: the blocks of 16 weight rows go to a panel of bytes and float scales that stays in the cache,
// and panel_tile (the level's micro-kernel) runs over it for each tile of rows.

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
inline int64_t row_size_of(const MatmulArgs& a) {
  return a.cols / W::kLayout.block * W::kLayout.block_bytes;
}

// Fetches one block's share of what stands ahead of it. The blocks of a super-block take long enough for the lines to come
// in two steps, of which only the short one holds a place among the first-level cache's few open requests. The empty
// statements keep GCC from moving the requests of all blocks into one burst.
template <class W>
inline void fetch_ahead(const uint8_t* share) {
  constexpr int kBytes = packed_block_bytes<W>();
  if constexpr (W::kLayout.block == 32) {
    prefetch<kBytes>(share + kPrefetch);
  } else {
    asm volatile("");
    prefetch<kBytes, 2>(share + 2 * kPrefetch);
    prefetch<kBytes>(share + kPrefetch / 8);
    asm volatile("");
  }
}

// kRows rows of x, `rows` of which are wanted, times 16 rows of packed weights at w.
template <class W, int kRows>
inline void direct_tile(const MatmulArgs& a, const uint8_t* w, const QuantBlock* x, int width, int rows, float* y,
                        int lanes) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  F32 acc[kRows];
  for (int m = 0; m < kRows; ++m) acc[m] = splat(0);
  for (int64_t left = a.cols / W::kLayout.block; left > 0; --left, w += kBytes, x += kBlocks * width) {
    W::each(w, [&](int j, const auto& words, const auto& scales) {
      fetch_ahead<W>(w + j * packed_block_bytes<W>());
      add_block<W, kRows>(words, scales, x + j * width, acc);
    });
  }
  for (int m = 0; m < kRows && m < rows; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

// The last `rows` rows of x, one group: eight at a time where the registers hold their sums, or four.
template <class W>
inline void direct_rows(const MatmulArgs& a, int rows) {
  constexpr int kFour = kDirectRows > 1 ? 4 : 1, kEight = kDirectRows > 1 && kAccumulators >= 16 ? 8 : kFour;
  const QuantBlock* const x = static_cast<const QuantBlock*>(a.x) + (a.m - rows) * (a.cols / 32);
  const int width = group_width(rows);
  for (int64_t row = a.begin; row < a.end; row += 16)
    for (int m = 0; m < width;) {
      const auto tile = [&](auto size) {
        float* const y = a.y + (a.m - rows + m) * a.y_stride + (row - a.begin);
        direct_tile<W, size>(a, a.weights + row * row_size_of<W>(a), x + m, width, rows - m, y, lanes_of(a, row));
        m += size;
      };
      if (width == 1)
        tile(Constant<1>());
      else if (width - m < 8)
        tile(Constant<kFour>());
      else
        tile(Constant<kEight>());
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

// Unpacks the `count` blocks of 32 of 16 weight rows that begin at w. For a few rows of x the next panel's weights are
// fetched, one part here and the other by tile_rows; for many, what stands kPrefetch ahead.
template <class W>
inline void fill_next(const uint8_t* w, int count, PanelOf<W>* panel, bool few) {
  constexpr int kBytes = packed_block_bytes<W>(), kByTile = fetched_by_tile<W>();
  if (few)
    fill_panel<W, kBytes - kByTile>(w, count, panel, count * kBytes + kByTile);
  else
    fill_panel<W, kBytes>(w, count, panel, kPrefetch);
}

// Rows of x [first, last), whole groups but for the end, times all weight rows of the call.
template <class W>
inline void panel_rows(const MatmulArgs& a, int64_t first, int64_t last) {
  alignas(64) PanelOf<W> panel[kPanelBlocks];
  const bool few = last - first <= kGroupRows;
  const int blocks = static_cast<int>(a.cols / 32), most = few ? kShortPanel : kPanelBlocks;
  for (int64_t row = a.begin; row < a.end; row += 16)
    for (int block = 0; block < blocks; block += most) {
      const int count = blocks - block < most ? blocks - block : most;
      const uint8_t* const w = a.weights + row * row_size_of<W>(a) + block * packed_block_bytes<W>();
      fill_next<W>(w, count, panel, few);
      for (int64_t m = first; m < last; m += kGroupRows) {
        const int rows = static_cast<int>(last - m < kGroupRows ? last - m : kGroupRows);
        const QuantBlock* x = static_cast<const QuantBlock*>(a.x) + m * blocks + block * group_width(rows);
        group_rows<W>(a, panel, count, x, rows, block == 0, a.y + m * a.y_stride + (row - a.begin), lanes_of(a, row),
                      few ? w + count * packed_block_bytes<W>() : nullptr);
      }
    }
}

// Whole panels for the first `rows` rows of x, as many at a time as stay in the cache.
template <class W>
inline void shared_rows(const MatmulArgs& a, int64_t rows) {
  const int64_t fit = kRowBlocks / (a.cols / 32) / kGroupRows * kGroupRows;
  const int64_t step = fit < 4 * kGroupRows ? 4 * kGroupRows : fit;
  for (int64_t m = 0; m < rows; m += step) panel_rows<W>(a, m, rows - m < step ? rows : m + step);
}

template <class W>
inline void matmul_quantized(const MatmulArgs& a) {
  if (a.m <= kDirectRows) return direct_rows<W>(a, static_cast<int>(a.m));
  const int alone = a.m % kGroupRows == 1;
  shared_rows<W>(a, a.m - alone);
  if (alone) direct_rows<W>(a, 1);
}
