// The micro-kernel of AVX2 and AVX-VNNI: four rows of x times a panel, two registers of eight outputs a row.
//
// A word of 4 x 16 weights is two registers; each row broadcasts four activations, multiplies them with both and adds
// the products to its sums (LLAMAQ_TILE_STEP: vpmaddubsw and vpaddw, or vpdpbusd alone): five instructions or three for
// 64 products. The loop stands in assembly because gcc 12 reorders the sums of the intrinsics until they no longer fit
// the registers, which costs a third of the speed. The sums of a block (AVX2 has 16-bit lanes; avx2/sums_i16.h says why
// they fit) then go to float and, scaled, to the outputs, which wait in the first-level cache.

template <class W>
constexpr int most_tile_rows() {
  return 4;
}

struct TileSums {
  __m256i a0, a1, a2, a3, b0, b1, b2, b3;  // outputs 0-7 and 8-15 of four rows
};

// clang-format off
#define LLAMAQ_ROW(word, row, a, b)                                \
  "vpbroadcastd 4*" #word "+64*" #row "(%[x]), %[t]\n" LLAMAQ_TILE_STEP(a, b)
#define LLAMAQ_WORD(word)                                                                                  \
  "vmovdqa 64*" #word "(%[w]), %[w0]\n" "vmovdqa 64*" #word "+32(%[w]), %[w1]\n"                             \
  LLAMAQ_ROW(word, 0, a0, b0) LLAMAQ_ROW(word, 1, a1, b1) LLAMAQ_ROW(word, 2, a2, b2) LLAMAQ_ROW(word, 3, a3, b3)
#define LLAMAQ_FOUR_WORDS(s, words, rows)                                                                           \
  asm(LLAMAQ_WORD(0) LLAMAQ_WORD(1) LLAMAQ_WORD(2) LLAMAQ_WORD(3)                                                   \
      : [a0] "+x"(s.a0), [a1] "+x"(s.a1), [a2] "+x"(s.a2), [a3] "+x"(s.a3), [b0] "+x"(s.b0), [b1] "+x"(s.b1),       \
        [b2] "+x"(s.b2), [b3] "+x"(s.b3), [w0] "=&x"(w0), [w1] "=&x"(w1), [t] "=&x"(t), [t2] "=&x"(t2)              \
      : [w] "r"(words), [x] "r"(rows), "m"(*reinterpret_cast<const uint8_t (*)[256]>(words)),                       \
        "m"(*reinterpret_cast<const QuantBlock (*)[4]>(rows)))
// clang-format on

// s += words 4 * half .. 4 * half + 3 times their activations
inline void add_half(TileSums& s, const uint8_t (*words)[64], const QuantBlock* x, int half) {
  __m256i w0, w1, t, t2;
  const uint8_t* w = words[4 * half];
  const int8_t* rows = x->q + 16 * half;
  LLAMAQ_FOUR_WORDS(s, w, rows);
}
#undef LLAMAQ_FOUR_WORDS
#undef LLAMAQ_WORD
#undef LLAMAQ_ROW

template <int kZero>
inline TileSums start_tile(const QuantBlock* x, int half) {
  const __m256i r0 = start<kZero>(x[0], half).v.lo, r1 = start<kZero>(x[1], half).v.lo,
                r2 = start<kZero>(x[2], half).v.lo, r3 = start<kZero>(x[3], half).v.lo;
  return {r0, r1, r2, r3, r0, r1, r2, r3};
}

template <int kZero>
inline TileSums whole_tile(const uint8_t (*words)[64], const QuantBlock* x) {
  TileSums s = start_tile<kZero>(x, kWhole);
  add_half(s, words, x, 0);
  add_half(s, words, x, 1);
  return s;
}

// f(row, its sums)
template <class F>
inline void each_row(const TileSums& s, const F& f) {
  f(0, Sum{{s.a0, s.b0}}), f(1, Sum{{s.a1, s.b1}}), f(2, Sum{{s.a2, s.b2}}), f(3, Sum{{s.a3, s.b3}});
}

template <class W>
inline void tile_block(const Panel<Scaled>& p, const QuantBlock* x, F32* acc) {
  const F32 scale = load(p.scales[0]);
  each_row(whole_tile<W::kZero>(p.words, x),
           [&](int m, Sum s) { acc[m] = fma(to_f32(total(s)), block_scale(scale, x[m]), acc[m]); });
}

template <class W>
inline void tile_block(const Panel<WithMinimum>& p, const QuantBlock* x, F32* acc) {
  constexpr int kZero = kNarrowSums && W::kLargest > 15 ? 16 : 0;
  const WithMinimum scales = scales_of(p);
  each_row(whole_tile<kZero>(p.words, x), [&](int m, Sum s) {
    const I32 isum = kZero ? total(s) - splat_i32(x[m].zero16) : total(s);
    const F32 with_minimum = fma(scales.minimum, splat(x[m].d_sum), acc[m]);
    acc[m] = fma(to_f32(isum), block_scale(scales.scale, x[m]), with_minimum);
  });
}

template <class W>
inline void tile_halves(const uint8_t (*words)[64], F32 scale, F32 half0, F32 half1, const QuantBlock* x, F32* acc) {
  F32 isum[4];
  TileSums s = start_tile<W::kZero>(x, 0);
  add_half(s, words, x, 0);
  each_row(s, [&](int m, Sum sum) { isum[m] = half0 * to_f32(total(sum)); });
  s = start_tile<W::kZero>(x, 1);
  add_half(s, words, x, 1);
  each_row(s, [&](int m, Sum sum) {
    acc[m] = fma(fma(half1, to_f32(total(sum)), isum[m]), block_scale(scale, x[m]), acc[m]);
  });
}

template <class W>
inline void tile_block(const Panel<Halves>& p, const QuantBlock* x, F32* acc) {
  const Halves s = scales_of(p);
  tile_halves<W>(p.words, s.scale, s.half0, s.half1, x, acc);
}

template <class W>
inline void tile_block(const Panel<HalvesWithMinimum>& p, const QuantBlock* x, F32* acc) {
  const HalvesWithMinimum s = scales_of(p);
  add_minimums<4>(s, x, acc);
  tile_halves<W>(p.words, s.scale, s.half0, s.half1, x, acc);
}

// Not inlined: the outputs then have one home in memory.
template <class W, int kRows>
__attribute__((noinline)) void panel_tile(const PanelOf<W>* panel, int blocks, const QuantBlock* x, int width,
                                          F32* acc) {
  for (; blocks > 0; --blocks, ++panel, x += width)
    if constexpr (kNarrowSums && (W::kZero == kSigned || W::kZero == kWideZero))
      add_block<InPanel<W>, kRows>(PanelWords{panel->words}, scales_of(*panel), x, acc);
    else
      tile_block<InPanel<W>>(*panel, x, acc);
}
