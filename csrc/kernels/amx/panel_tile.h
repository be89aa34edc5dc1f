// The micro-kernel of AMX: 16, 8 or 4 rows of x times a panel.
//
// A tile of x is rows as they lie in their group, a cache line each; a tile of weights is the eight words of a panel's
// block, their zero point subtracted (amx/sums.h). Their product is the block's exact integer sums, or two products are
// those of its halves. Sums leave a tile through memory alone: they are stored, and scaled into the outputs, which stay in
// registers, while the next block is multiplied into another tile.

template <int kRows>
struct Tiles;  // the registers of a tile of rows
template <>
struct Tiles<16> {
  static constexpr int kSums[2] = {0, 1}, kX = 2;
};
template <>
struct Tiles<8> {
  static constexpr int kSums[2] = {3, 3}, kX = 4;
};
template <>
struct Tiles<4> {
  static constexpr int kSums[2] = {5, 5}, kX = 6;
};
constexpr int kWeights = 7;

// A block is one product of 32 columns, or two of 16 where its halves have scales of their own.
template <class Form>
constexpr int kParts = 1;
template <>
constexpr int kParts<Halves> = 2;
template <>
constexpr int kParts<HalvesWithMinimum> = 2;

template <int kProducts>
constexpr TileShapes kShapes = {
    1,
    0,
    {},
    {64, 64, 32 / kProducts, 64, 32 / kProducts, 64, 32 / kProducts, 64},
    {16, 16, 16, 8, 8, 4, 4, 8 / kProducts},
};

// The sums of one part of a block, from byte `first` of the rows of x and word `first` / 4 of the panel.
template <int kRows, int kSum>
inline void multiply(const uint8_t (&words)[8][64], const QuantBlock* x, int first, TileSums& sums) {
  zero_tile<kSum>();
  load_tile<Tiles<kRows>::kX>(x->q + first, sizeof(QuantBlock), *reinterpret_cast<const QuantBlock(*)[kRows]>(x));
  load_tile<kWeights>(reinterpret_cast<const int8_t*>(words[first / 4]), 64, words);
  add_tile_product<kSum, Tiles<kRows>::kX, kWeights>();
  store_tile<kSum>(sums);
}

template <int kRows, int kProducts, int kTurn>
inline void multiply_block(const uint8_t (&words)[8][64], const QuantBlock* x, TileSums* sums) {
  multiply<kRows, Tiles<kRows>::kSums[kProducts == 1 ? kTurn : 0]>(words, x, 0, sums[0]);
  if (kProducts == 2) multiply<kRows, Tiles<kRows>::kSums[1]>(words, x, 16, sums[kProducts - 1]);
}

// f(0) to f(M - 1) with constants: arrays indexed by them stay in registers.
template <int M, class F>
[[gnu::always_inline]] inline void each_row(const F& f) {
  if constexpr (M > 1) each_row<M - 1>(f);
  f(Constant<M - 1>());
}

inline F32 sum_of(const TileSums& sums, int row) {
  return to_f32(load_i32(reinterpret_cast<const uint8_t*>(sums[row])));
}

template <int M>
inline void add_sums(const Scaled& s, const TileSums* sums, const QuantBlock* x, F32* acc) {
  each_row<M>([&](auto m) { acc[m] = fma(sum_of(sums[0], m), block_scale(s.scale, x[m]), acc[m]); });
}
template <int M>
inline void add_sums(const WithMinimum& s, const TileSums* sums, const QuantBlock* x, F32* acc) {
  each_row<M>([&](auto m) { acc[m] = fma(s.minimum, splat(x[m].d_sum), acc[m]); });
  add_sums<M>(Scaled{s.scale}, sums, x, acc);
}
template <int M>
inline void add_sums(const Halves& s, const TileSums* sums, const QuantBlock* x, F32* acc) {
  each_row<M>([&](auto m) {
    const F32 sum = fma(s.half1, sum_of(sums[1], m), s.half0 * sum_of(sums[0], m));  // forms.h computes the same
    acc[m] = fma(sum, block_scale(s.scale, x[m]), acc[m]);
  });
}
template <int M>
inline void add_sums(const HalvesWithMinimum& s, const TileSums* sums, const QuantBlock* x, F32* acc) {
  each_row<M>([&](auto m) {
    const F32 minimums = fma(s.min1, half_sum(x[m], 1), s.min0 * half_sum(x[m], 0));
    acc[m] = fma(s.minimum, splat(x[m].d) * minimums, acc[m]);
  });
  add_sums<M>(Halves{s.scale, s.half0, s.half1}, sums, x, acc);
}

template <class W>
constexpr int64_t most_grouped_rows() {  // calls of up to so many rows of x need no panels of many blocks
  return 16;
}

template <class W>
constexpr int most_tile_rows() {
  return 16;
}

// out[m] += row m of x times the panel; `width` lies between a block of a row and its next.
template <class P, int kRows>
[[gnu::noinline]] void panel_tile(const PanelOf<P>* panel, int blocks, const QuantBlock* x, int width, F32* out) {
  constexpr int kProducts = kParts<typename P::Form>;
  alignas(64) TileSums sums[2][kProducts];
  F32 acc[kRows];
  each_row<kRows>([&](auto m) { acc[m] = out[m]; });
  for (int block = 0; block <= blocks; ++block) {
    if (block < blocks) {
      if (block % 2)
        multiply_block<kRows, kProducts, 1>(panel[block].words, x + block * width, sums[1]);
      else
        multiply_block<kRows, kProducts, 0>(panel[block].words, x + block * width, sums[0]);
    }
    if (block > 0) add_sums<kRows>(scales_of(panel[block - 1]), sums[(block - 1) % 2], x + (block - 1) * width, acc);
  }
  each_row<kRows>([&](auto m) { out[m] = acc[m]; });
}
