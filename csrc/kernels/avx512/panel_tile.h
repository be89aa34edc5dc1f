// The micro-kernel of AVX-512 VNNI: up to sixteen rows of x times a panel, one register of sixteen outputs a row.
//
// Each row adds its products to one integer sum with eight vpdpbusd, whose activations are broadcast from memory by the
// instruction itself. A sum waits five cycles for its next product and the ports take ten meanwhile, so eight rows run
// interleaved; four rows have two sums each. That is assembly: gcc 12 loads the activations apart. Eleven instructions
// of the two 512-bit ports for 16 x 32 products, eight of which multiply.

constexpr int kDirectRows = 16;  // groups of up to so many rows of x unpack weights in registers

template <class W>
constexpr int64_t most_grouped_rows() {  // calls of up to so many rows of x need no panels of many blocks
  if (kUnpacking<W> == Unpacking::kTrivial) return INT64_MAX;
  if (kUnpacking<W> == Unpacking::kLong) return 16;
  return PanelOf<W>::kScales < 3 ? 64 : 32;
}

template <class W>
constexpr int most_tile_rows() {
  return PanelOf<W>::kScales < 3 ? 16 : 8;
}

struct EightSums {
  __m512i s0, s1, s2, s3, s4, s5, s6, s7;
};

// clang-format off
#define LLAMAQ_ROW(sum, offset) "vpdpbusd " #offset "(%[x])%{1to16%}, %[w], %[" #sum "]\n"
#define LLAMAQ_EIGHT_ROWS(word)                                                                            \
  "vmovdqa64 64*" #word "(%[words]), %[w]\n"                                                                \
  LLAMAQ_ROW(s0, 4*word) LLAMAQ_ROW(s1, 4*word+64) LLAMAQ_ROW(s2, 4*word+128) LLAMAQ_ROW(s3, 4*word+192)     \
  LLAMAQ_ROW(s4, 4*word+256) LLAMAQ_ROW(s5, 4*word+320) LLAMAQ_ROW(s6, 4*word+384) LLAMAQ_ROW(s7, 4*word+448)
#define LLAMAQ_FOUR_ROWS(word)                                                                             \
  "vmovdqa64 64*" #word "(%[words]), %[w]\n"                                                                \
  LLAMAQ_ROW(s0, 4*word) LLAMAQ_ROW(s1, 4*word+64) LLAMAQ_ROW(s2, 4*word+128) LLAMAQ_ROW(s3, 4*word+192)     \
  "vmovdqa64 64*" #word "+64(%[words]), %[w]\n"                                                             \
  LLAMAQ_ROW(s4, 4*word+4) LLAMAQ_ROW(s5, 4*word+68) LLAMAQ_ROW(s6, 4*word+132) LLAMAQ_ROW(s7, 4*word+196)
#define LLAMAQ_SUMS(s)                                                                                     \
  [s0] "+v"(s.s0), [s1] "+v"(s.s1), [s2] "+v"(s.s2), [s3] "+v"(s.s3), [s4] "+v"(s.s4), [s5] "+v"(s.s5),      \
  [s6] "+v"(s.s6), [s7] "+v"(s.s7)
// clang-format on

// s += words 4 * half .. 4 * half + 3 times the activations of eight rows
inline void add_half(EightSums& s, const uint8_t (*panel)[64], const QuantBlock* rows, int half) {
  const uint8_t* words = panel[4 * half];
  const int8_t* x = rows->q + 16 * half;
  __m512i w;
  asm(LLAMAQ_EIGHT_ROWS(0) LLAMAQ_EIGHT_ROWS(1) LLAMAQ_EIGHT_ROWS(2) LLAMAQ_EIGHT_ROWS(3)
      : LLAMAQ_SUMS(s), [w] "=&v"(w)
      : [words] "r"(words), [x] "r"(x), "m"(*reinterpret_cast<const uint8_t(*)[256]>(words)),
        "m"(*reinterpret_cast<const QuantBlock(*)[8]>(rows)));
}

// The same for four rows: words of odd number go to the sums s4 .. s7.
inline void add_half_of_four(EightSums& s, const uint8_t (*panel)[64], const QuantBlock* rows, int half) {
  const uint8_t* words = panel[4 * half];
  const int8_t* x = rows->q + 16 * half;
  __m512i w;
  asm(LLAMAQ_FOUR_ROWS(0) LLAMAQ_FOUR_ROWS(2)
      : LLAMAQ_SUMS(s), [w] "=&v"(w)
      : [words] "r"(words), [x] "r"(x), "m"(*reinterpret_cast<const uint8_t(*)[256]>(words)),
        "m"(*reinterpret_cast<const QuantBlock(*)[4]>(rows)));
}
#undef LLAMAQ_SUMS
#undef LLAMAQ_FOUR_ROWS
#undef LLAMAQ_EIGHT_ROWS
#undef LLAMAQ_ROW

// f(row, its sum) for kRows rows of x, 8 or 4, over a block or half of it
template <int kZero, int kRows, class F>
inline void each_row(const uint8_t (*words)[64], const QuantBlock* x, int half, const F& f) {
  const auto from = [&](int m) { return start<kZero>(x[m], half).v.v; };
  const bool first = half != 1, second = half != 0;
  if constexpr (kRows == 8) {
    EightSums s = {from(0), from(1), from(2), from(3), from(4), from(5), from(6), from(7)};
    if (first) add_half(s, words, x, 0);
    if (second) add_half(s, words, x, 1);
    f(0, I32{s.s0}), f(1, I32{s.s1}), f(2, I32{s.s2}), f(3, I32{s.s3});
    f(4, I32{s.s4}), f(5, I32{s.s5}), f(6, I32{s.s6}), f(7, I32{s.s7});
  } else {
    const __m512i zero = _mm512_setzero_si512();
    EightSums s = {from(0), from(1), from(2), from(3), zero, zero, zero, zero};
    if (first) add_half_of_four(s, words, x, 0);
    if (second) add_half_of_four(s, words, x, 1);
    f(0, I32{s.s0} + I32{s.s4}), f(1, I32{s.s1} + I32{s.s5}), f(2, I32{s.s2} + I32{s.s6}), f(3, I32{s.s3} + I32{s.s7});
  }
}

template <class W, int kRows>
inline void tile_block(const uint8_t (*words)[64], const Scaled& p, const QuantBlock* x, F32* acc) {
  each_row<W::kZero, kRows>(words, x, kWhole,
                            [&](int m, I32 s) { acc[m] = fma(to_f32(s), block_scale(p.scale, x[m]), acc[m]); });
}

template <class W, int kRows>
inline void tile_block(const uint8_t (*words)[64], const WithMinimum& p, const QuantBlock* x, F32* acc) {
  each_row<W::kZero, kRows>(words, x, kWhole, [&](int m, I32 s) {
    const F32 with_minimum = fma(p.minimum, splat(x[m].d_sum), acc[m]);
    acc[m] = fma(to_f32(s), block_scale(p.scale, x[m]), with_minimum);
  });
}

template <class W, int kRows>
inline void tile_halves(const uint8_t (*words)[64], F32 scale, F32 half0, F32 half1, const QuantBlock* x, F32* acc) {
  F32 isum[kRows];
  each_row<W::kZero, kRows>(words, x, 0, [&](int m, I32 s) { isum[m] = half0 * to_f32(s); });
  each_row<W::kZero, kRows>(words, x, 1, [&](int m, I32 s) {
    acc[m] = fma(fma(half1, to_f32(s), isum[m]), block_scale(scale, x[m]), acc[m]);
  });
}

template <class W, int kRows>
inline void tile_block(const uint8_t (*words)[64], const Halves& p, const QuantBlock* x, F32* acc) {
  tile_halves<W, kRows>(words, p.scale, p.half0, p.half1, x, acc);
}

template <class W, int kRows>
inline void tile_block(const uint8_t (*words)[64], const HalvesWithMinimum& p, const QuantBlock* x, F32* acc) {
  add_minimums<kRows>(p, x, acc);
  tile_halves<W, kRows>(words, p.scale, p.half0, p.half1, x, acc);
}

template <class P, int kRows>
__attribute__((noinline)) void panel_tile(const PanelOf<P>* panel, int blocks, const QuantBlock* x, int width,
                                          F32* acc) {
  constexpr int kStep = kRows < 8 ? 4 : 8;
  F32 sums[kRows];
  for (int m = 0; m < kRows; ++m) sums[m] = acc[m];
  for (; blocks > 0; --blocks, ++panel, x += width) {
    const auto scales = scales_of(*panel);
    tile_block<P, kStep>(panel->words, scales, x, sums);
    if constexpr (kRows > 8) tile_block<P, kStep>(panel->words, scales, x + 8, sums + 8);
  }
  for (int m = 0; m < kRows; ++m) acc[m] = sums[m];
}
