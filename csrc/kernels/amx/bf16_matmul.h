// y = x * W^T by tiles of bfloat16, for numerics "fast": 32 rows of x by 32 weight rows at a time.
//
// Four sums stay in tiles for 512 columns, so that each tile of x and of weights that is loaded is multiplied twice. The
// weights of these columns stand in a panel in the first-level cache; the rows of x pass by from the second. An output is
// the sum of its slices of 512 columns in ascending order, whatever the rows beside it and the thread.

constexpr int kSliceBlocks = 16;     // blocks of 32 columns: a panel of 32 KB
constexpr int64_t kPassRows = 1024;  // rows of x whose slice is to stay in the second-level cache

using Bf16Panel = Bf16Tile[2][kSliceBlocks];

// sums[i][j] = 16 rows of x from group i times 16 weight rows from group j, over one slice.
template <int kX, int kW>
inline void multiply_slice(const Bf16Panel& panel, int count, const Bf16Block* x0, const Bf16Block* x1,
                           FloatSums (&sums)[2][2]) {
  using Rows = const Bf16Block[kGroupRows];
  const auto bytes = [](const auto* p) { return reinterpret_cast<const int8_t*>(p); };
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int block = 0; block < count; ++block, x0 += kGroupRows, x1 += kGroupRows) {
    load_tile<4>(bytes(x0), 64, *reinterpret_cast<Rows*>(x0));
    load_tile<6>(bytes(&panel[0][block]), 64, panel[0][block]);
    add_bf16_product<0, 4, 6>();
    if (kW == 2) {
      load_tile<7>(bytes(&panel[1][block]), 64, panel[1][block]);
      add_bf16_product<1, 4, 7>();
    }
    if (kX == 2) {
      load_tile<5>(bytes(x1), 64, *reinterpret_cast<Rows*>(x1));
      add_bf16_product<2, 5, 6>();
      if (kW == 2) add_bf16_product<3, 5, 7>();
    }
  }
  store_tile<0>(sums[0][0]);
  if (kW == 2) store_tile<1>(sums[0][1]);
  if (kX == 2) store_tile<2>(sums[1][0]);
  if (kX == 2 && kW == 2) store_tile<3>(sums[1][1]);
}

inline void add_slice(const FloatSums& sums, int rows, int lanes, bool first, float* y, ptrdiff_t stride) {
  for (int m = 0; m < rows; ++m, y += stride) {
    const F32 sum = load(sums[m]);
    store_first(y, first ? sum : load_first(y, lanes) + sum, lanes);
  }
}

// A panel times the rows of x [begin, end); one text for all formats.
[[gnu::noinline]] static void multiply_panel(const MatmulArgs& a, const Bf16Panel& panel, int64_t row, int block,
                                             int count, int64_t begin, int64_t end) {
  const int64_t blocks = (a.cols + 31) / 32;
  const int groups = a.end - row > 16 ? 2 : 1;
  alignas(64) FloatSums sums[2][2];
  for (int64_t m = begin; m < end; m += 2 * kGroupRows) {
    const bool both = end - m > kGroupRows;
    const Bf16Block* x0 = static_cast<const Bf16Block*>(a.x) + m * blocks + int64_t{block} * kGroupRows;
    const Bf16Block* x1 = x0 + blocks * kGroupRows;
    if (groups == 2)
      both ? multiply_slice<2, 2>(panel, count, x0, x1, sums) : multiply_slice<1, 2>(panel, count, x0, x0, sums);
    else
      both ? multiply_slice<2, 1>(panel, count, x0, x1, sums) : multiply_slice<1, 1>(panel, count, x0, x0, sums);
    for (int i = 0; i <= both; ++i)
      for (int j = 0; j < groups; ++j) {
        const int64_t from = m + i * kGroupRows, left = end - from, n = row + 16 * j;
        add_slice(sums[i][j], left < kGroupRows ? static_cast<int>(left) : kGroupRows, lanes_of(a, n), block == 0,
                  a.y + from * a.y_stride + (n - a.begin), a.y_stride);
      }
  }
}

template <void (*kFill)(const MatmulArgs&, int64_t row, int block, int count, Bf16Tile*)>
inline void matmul_bf16(const MatmulArgs& a) {
  alignas(64) Bf16Panel panel;
  const int blocks = static_cast<int>((a.cols + 31) / 32);
  configure_tiles(kFullTiles);
  for (int64_t m = 0; m < a.m; m += kPassRows)
    for (int block = 0; block < blocks; block += kSliceBlocks)
      for (int64_t row = a.begin; row < a.end; row += 32) {
        const int count = blocks - block < kSliceBlocks ? blocks - block : kSliceBlocks;
        for (int64_t group = 0; group < 2 && row + 16 * group < a.end; ++group)
          kFill(a, row + 16 * group, block, count, panel[group]);
        multiply_panel(a, panel, row, block, count, m, a.m - m < kPassRows ? a.m : m + kPassRows);
      }
  release_tiles();
}
