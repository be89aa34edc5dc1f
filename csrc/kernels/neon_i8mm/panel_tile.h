// The micro-kernel of i8mm: smmla multiplies two rows of 8 weights by two rows of 8 activations, four sums a register.
//
// Words 2i and 2i+1 of four weight rows, zipped, are two such pairs of rows. Eight weight rows are taken at a time, so
// that their sums with eight rows of x fill 16 registers.

constexpr int kDirectRows = 1;  // groups of up to so many rows of x unpack weights in registers

template <class W>
constexpr int64_t most_grouped_rows() {  // calls of up to so many rows of x need no panels of many blocks
  return 16;
}

template <class W>
constexpr int most_tile_rows() {
  return 8;
}

// Adds columns [8 * first, 8 * last) of eight weight rows, 2p and 2p+1 times rows 2r and 2r+1 of x, to sums[p][r].
template <int kPairs>
inline void add_products(const uint8_t* words, const QuantBlock* x, int first, int last, int32x4_t (*sums)[kPairs]) {
  for (int i = first; i < last; ++i) {
    int8x16_t w[4];
    for (int quad = 0; quad < 2; ++quad) {
      const int32x4_t low = vreinterpretq_s32_u8(vld1q_u8(words + 128 * i + 16 * quad));
      const int32x4_t high = vreinterpretq_s32_u8(vld1q_u8(words + 128 * i + 64 + 16 * quad));
      w[2 * quad] = vreinterpretq_s8_s32(vzip1q_s32(low, high));
      w[2 * quad + 1] = vreinterpretq_s8_s32(vzip2q_s32(low, high));
    }
    for (int r = 0; r < kPairs; ++r) {
      const int8x16_t a = vcombine_s8(vld1_s8(x[2 * r].q + 8 * i), vld1_s8(x[2 * r + 1].q + 8 * i));
      for (int p = 0; p < 4; ++p) sums[p][r] = vmmlaq_s32(sums[p][r], w[p], a);
    }
  }
}

// The sums of a panel's words, over columns [8 * first, 8 * last), that start at starts[m].
template <int M>
inline void matrix_sums(const PanelWords& panel, const QuantBlock* x, int first, int last, const int32x4_t* starts,
                        I32* totals) {
  for (int eight = 0; eight < 2; ++eight) {
    int32x4_t sums[4][M / 2];
    for (int r = 0; r < M / 2; ++r)
      for (int p = 0; p < 4; ++p) sums[p][r] = vzip1q_s32(starts[2 * r], starts[2 * r + 1]);
    add_products<M / 2>(panel.words[0] + 32 * eight, x, first, last, sums);
    for (int m = 0; m < M; ++m)
      for (int quad = 0; quad < 2; ++quad) {
        const int32x4_t a = sums[2 * quad][m / 2], b = sums[2 * quad + 1][m / 2];
        totals[m].v[2 * eight + quad] = m % 2 ? vuzp2q_s32(a, b) : vuzp1q_s32(a, b);
      }
  }
}

// generic/forms.h calls these for the words of a panel.
template <int kZero, int M>
inline void whole_sums(const PanelWords& panel, const QuantBlock* x, I32* totals) {
  int32x4_t starts[M];
  for (int m = 0; m < M; ++m) starts[m] = Start<kZero>::of(x[m]).v.v[0];
  matrix_sums<M>(panel, x, 0, 4, starts, totals);
}
template <int kZero, int M>
inline void half_sums(const PanelWords& panel, const QuantBlock* x, int half, I32* totals) {
  int32x4_t starts[M];
  for (int m = 0; m < M; ++m) starts[m] = start<kZero>(x[m], half).v.v[0];
  matrix_sums<M>(panel, x, 2 * half, 2 * half + 2, starts, totals);
}

// acc[m] += row m of x times the panel; `width` lies between a block of a row and its next.
template <class P, int kRows>
__attribute__((noinline)) void panel_tile(const PanelOf<P>* panel, int blocks, const QuantBlock* x, int width,
                                          F32* acc) {
  for (; blocks > 0; --blocks, ++panel, x += width)
    add_block<P, kRows>(PanelWords{panel->words}, scales_of(*panel), x, acc);
}
