// y = x * W^T by tiles of bfloat16, for numerics "fast": 32 rows of x by 32 weight rows at a time.
//
// Four sums stay in tiles for 512 columns, so that each tile of x and of weights that is loaded is multiplied twice. The
// weights of these columns stand in a panel in the first-level cache; the rows of x pass by from the second. An output is
// the sum of its slices of 512 columns in ascending order, whatever the rows beside it and the thread.

constexpr int kSliceBlocks = 16;     // blocks of 32 columns: a panel of 32 KB
constexpr int64_t kPassRows = 1024;  // rows of x whose slice is to stay in the second-level cache

// y = (or +=) some rows of x times up to 32 weight rows, over `count` blocks.
struct Bf16Product {
  const Bf16Block* x;
  int64_t x_blocks;  // blocks of a whole row
  const Bf16Tile* weights[2];
  int lanes[2];  // weight rows in each half, 0 for none
  int count;
  int64_t rows;
  bool fresh;
  float* y;
  ptrdiff_t stride;
};

// sums[i][j] = 16 rows of x from group i times 16 weight rows from group j
template <int kX, int kW>
inline void multiply_tiles(const Bf16Product& p, const Bf16Block* x, FloatSums (&sums)[2][2]) {
  using Rows = const Bf16Block[kGroupRows];
  const auto bytes = [](const auto* pointer) { return reinterpret_cast<const int8_t*>(pointer); };
  const Bf16Block* second = x + p.x_blocks * kGroupRows;
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int block = 0; block < p.count; ++block, x += kGroupRows, second += kGroupRows) {
    const Bf16Tile &w0 = p.weights[0][block], &w1 = p.weights[kW - 1][block];
    load_tile<4>(bytes(x), 64, *reinterpret_cast<Rows*>(x));
    load_tile<6>(bytes(&w0), 64, w0);
    add_bf16_product<0, 4, 6>();
    if (kW == 2) {
      load_tile<7>(bytes(&w1), 64, w1);
      add_bf16_product<1, 4, 7>();
    }
    if (kX == 2) {
      load_tile<5>(bytes(second), 64, *reinterpret_cast<Rows*>(second));
      add_bf16_product<2, 5, 6>();
      if (kW == 2) add_bf16_product<3, 5, 7>();
    }
  }
  store_tile<0>(sums[0][0]);
  if (kW == 2) store_tile<1>(sums[0][1]);
  if (kX == 2) store_tile<2>(sums[1][0]);
  if (kX == 2 && kW == 2) store_tile<3>(sums[1][1]);
}

inline void put_sums(const FloatSums& sums, int64_t rows, int lanes, bool fresh, float* y, ptrdiff_t stride) {
  for (int m = 0; m < kGroupRows && m < rows; ++m, y += stride) {
    const F32 sum = load(sums[m]);
    store_first(y, fresh ? sum : load_first(y, lanes) + sum, lanes);
  }
}

// One function serves all formats.
[[gnu::noinline]] static void multiply(const Bf16Product& p) {
  alignas(64) FloatSums sums[2][2];
  for (int64_t m = 0; m < p.rows; m += 2 * kGroupRows) {
    const bool both = p.rows - m > kGroupRows;
    const Bf16Block* x = p.x + m * p.x_blocks;
    if (p.lanes[1])
      both ? multiply_tiles<2, 2>(p, x, sums) : multiply_tiles<1, 2>(p, x, sums);
    else
      both ? multiply_tiles<2, 1>(p, x, sums) : multiply_tiles<1, 1>(p, x, sums);
    for (int i = 0; i <= both; ++i)
      for (int j = 0; j < 2 && p.lanes[j]; ++j) {
        const int64_t row = m + i * kGroupRows;
        put_sums(sums[i][j], p.rows - row, p.lanes[j], p.fresh, p.y + row * p.stride + 16 * j, p.stride);
      }
  }
}

// Fills `count` tiles with 16 weight rows from `row` on, columns from 32 * block on.
using Bf16Fill = void (*)(const MatmulArgs&, int64_t row, int block, int count, Bf16Tile* tiles);

[[gnu::noinline]] static void matmul_bf16(const MatmulArgs& a, Bf16Fill fill) {
  alignas(64) Bf16Tile panel[2][kSliceBlocks];
  const int blocks = static_cast<int>((a.cols + 31) / 32);
  configure_tiles(kFullTiles);
  for (int64_t m = 0; m < a.m; m += kPassRows)
    for (int block = 0; block < blocks; block += kSliceBlocks)
      for (int64_t row = a.begin; row < a.end; row += 32) {
        const int count = blocks - block < kSliceBlocks ? blocks - block : kSliceBlocks;
        const bool two = a.end - row > 16;
        fill(a, row, block, count, panel[0]);
        if (two) fill(a, row + 16, block, count, panel[1]);
        multiply({static_cast<const Bf16Block*>(a.x) + m * blocks + block * kGroupRows,
                  blocks,
                  {panel[0], panel[1]},
                  {lanes_of(a, row), two ? lanes_of(a, row + 16) : 0},
                  count,
                  a.m - m < kPassRows ? a.m - m : kPassRows,
                  block == 0,
                  a.y + m * a.y_stride + (row - a.begin),
                  a.y_stride});
      }
  release_tiles();
}

template <Bf16Fill kFill>
inline void fast_matmul(const MatmulArgs& a) {
  matmul_bf16(a, kFill);
}
