// The micro-kernel of AVX2 and AVX-VNNI: four rows of x times a panel, two registers of eight outputs a row.
//
// A word of 4 x 16 weights is two registers; each row broadcasts four activations, multiplies them with both and adds
// the products to its sums (LLAMAQ_TILE_STEP: vpmaddubsw and vpaddw, or vpdpbusd alone): five instructions or three for
// 64 products. Weights of more than five bits do not fit AVX2's 16-bit sums and take seven, or nine with signs. The loop
// stands in assembly because gcc 12 reorders the sums of the intrinsics until they no longer fit
// the registers, which costs a third of the speed. The sums of a block (AVX2 has 16-bit lanes; avx2/sums_i16.h says why
// they fit) then go to float and, scaled, to the outputs, which wait in the first-level cache.

constexpr int kDirectRows = 4;  // groups of up to so many rows of x unpack weights in registers

template <class W>
constexpr int64_t most_grouped_rows() {  // calls of up to so many rows of x need no panels of many blocks
  return kUnpacking<W> == Unpacking::kLong ? 16 : 64;
}

template <class W>
constexpr int most_tile_rows() {
  return 4;
}

struct TileSums {
  __m256i a0, a1, a2, a3, b0, b1, b2, b3;  // outputs 0-7 and 8-15 of four rows
};

// clang-format off
#define LLAMAQ_ROW(step, word, row, a, b) "vpbroadcastd 4*" #word "+64*" #row "(%[x]), %[t]\n" step(a, b)
#define LLAMAQ_WORD(before, step, word)                                                                              \
  "vmovdqa 64*" #word "(%[w]), %[w0]\n" "vmovdqa 64*" #word "+32(%[w]), %[w1]\n" before                              \
  LLAMAQ_ROW(step, word, 0, a0, b0) LLAMAQ_ROW(step, word, 1, a1, b1)                                                \
  LLAMAQ_ROW(step, word, 2, a2, b2) LLAMAQ_ROW(step, word, 3, a3, b3)
#define LLAMAQ_FOUR_WORDS(before, step)                                                                              \
  asm(LLAMAQ_WORD(before, step, 0) LLAMAQ_WORD(before, step, 1)                                                      \
      LLAMAQ_WORD(before, step, 2) LLAMAQ_WORD(before, step, 3)                                                      \
      : [a0] "+x"(s.a0), [a1] "+x"(s.a1), [a2] "+x"(s.a2), [a3] "+x"(s.a3), [b0] "+x"(s.b0), [b1] "+x"(s.b1),        \
        [b2] "+x"(s.b2), [b3] "+x"(s.b3), [w0] "=&x"(w0), [w1] "=&x"(w1), [t] "=&x"(t), [t2] "=&x"(t2),              \
        [p0] "=&x"(p0), [p1] "=&x"(p1)                                                                               \
      : [w] "r"(w), [x] "r"(rows), [ones] "x"(_mm256_set1_epi16(1)),                                                 \
        "m"(*reinterpret_cast<const uint8_t (*)[256]>(w)), "m"(*reinterpret_cast<const QuantBlock (*)[4]>(rows)))
// Steps of sums in 32-bit lanes: of unsigned weights, and of signed ones, |w| times sign(w) * t.
#define LLAMAQ_ADD_PAIRS(a, b)                                                   \
  "vpmaddwd %[ones], %[t2], %[t2]\n" "vpmaddwd %[ones], %[t], %[t]\n"            \
  "vpaddd %[t2], %[" #a "], %[" #a "]\n" "vpaddd %[t], %[" #b "], %[" #b "]\n"
#define LLAMAQ_WIDE_STEP(a, b)                                                   \
  "vpmaddubsw %[t], %[w0], %[t2]\n" "vpmaddubsw %[t], %[w1], %[t]\n" LLAMAQ_ADD_PAIRS(a, b)
#define LLAMAQ_SIGNED_STEP(a, b)                                                 \
  "vpsignb %[w0], %[t], %[t2]\n" "vpsignb %[w1], %[t], %[t]\n"                   \
  "vpmaddubsw %[t2], %[p0], %[t2]\n" "vpmaddubsw %[t], %[p1], %[t]\n" LLAMAQ_ADD_PAIRS(a, b)
// clang-format on

// s += words 4 * half .. 4 * half + 3 times their activations
template <int kZero>
inline void add_half(TileSums& s, const uint8_t (*words)[64], const QuantBlock* x, int half) {
  __m256i w0, w1, t, t2, p0, p1;
  const uint8_t* w = words[4 * half];
  const int8_t* rows = x->q + 16 * half;
  if constexpr (kNarrowSums && kZero == kSigned)
    LLAMAQ_FOUR_WORDS("vpabsb %[w0], %[p0]\nvpabsb %[w1], %[p1]\n", LLAMAQ_SIGNED_STEP);
  else if constexpr (kNarrowSums && kZero == kWideZero)
    LLAMAQ_FOUR_WORDS("", LLAMAQ_WIDE_STEP);
  else
    LLAMAQ_FOUR_WORDS("", LLAMAQ_TILE_STEP);
}
#undef LLAMAQ_SIGNED_STEP
#undef LLAMAQ_WIDE_STEP
#undef LLAMAQ_ADD_PAIRS
#undef LLAMAQ_FOUR_WORDS
#undef LLAMAQ_WORD
#undef LLAMAQ_ROW

// The sum of row `x` before anything is added, and its type.
template <int kZero>
inline auto start_row(const QuantBlock& x, int half) {
  if constexpr (kZero == kSigned)
    return start_signed(x);  // signed weights come in whole blocks only
  else
    return start<kZero>(x, half);
}

template <int kZero>
inline TileSums start_tile(const QuantBlock* x, int half) {
  const __m256i r0 = start_row<kZero>(x[0], half).v.lo, r1 = start_row<kZero>(x[1], half).v.lo,
                r2 = start_row<kZero>(x[2], half).v.lo, r3 = start_row<kZero>(x[3], half).v.lo;
  return {r0, r1, r2, r3, r0, r1, r2, r3};
}

template <int kZero>
inline TileSums whole_tile(const uint8_t (*words)[64], const QuantBlock* x) {
  TileSums s = start_tile<kZero>(x, kWhole);
  add_half<kZero>(s, words, x, 0);
  add_half<kZero>(s, words, x, 1);
  return s;
}

// f(row, its sums as integers)
template <int kZero, class F>
inline void each_row(const TileSums& s, const F& f) {
  using Sums = decltype(start_row<kZero>(QuantBlock(), kWhole));
  f(0, total(Sums{{s.a0, s.b0}})), f(1, total(Sums{{s.a1, s.b1}}));
  f(2, total(Sums{{s.a2, s.b2}})), f(3, total(Sums{{s.a3, s.b3}}));
}

template <class W>
inline void tile_block(const Panel<Scaled>& p, const QuantBlock* x, F32* acc) {
  const F32 scale = load(p.scales[0]);
  each_row<W::kZero>(whole_tile<W::kZero>(p.words, x),
                     [&](int m, I32 s) { acc[m] = fma(to_f32(s), block_scale(scale, x[m]), acc[m]); });
}

template <class W>
inline void tile_block(const Panel<WithMinimum>& p, const QuantBlock* x, F32* acc) {
  const WithMinimum scales = scales_of(p);
  each_row<W::kZero>(whole_tile<W::kZero>(p.words, x), [&](int m, I32 s) {
    const I32 isum = without_zero<W::kZero>(s, x[m]);
    const F32 with_minimum = fma(scales.minimum, splat(x[m].d_sum), acc[m]);
    acc[m] = fma(to_f32(isum), block_scale(scales.scale, x[m]), with_minimum);
  });
}

template <class W>
inline void tile_halves(const uint8_t (*words)[64], F32 scale, F32 half0, F32 half1, const QuantBlock* x, F32* acc) {
  F32 isum[4];
  TileSums s = start_tile<W::kZero>(x, 0);
  add_half<W::kZero>(s, words, x, 0);
  each_row<W::kZero>(s, [&](int m, I32 sum) { isum[m] = half0 * to_f32(sum); });
  s = start_tile<W::kZero>(x, 1);
  add_half<W::kZero>(s, words, x, 1);
  each_row<W::kZero>(
      s, [&](int m, I32 sum) { acc[m] = fma(fma(half1, to_f32(sum), isum[m]), block_scale(scale, x[m]), acc[m]); });
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

// It is not inlined, so that the outputs have one home in memory.
template <class P, int kRows>
__attribute__((noinline)) void panel_tile(const PanelOf<P>* panel, int blocks, const QuantBlock* x, int width,
                                          F32* acc) {
  for (; blocks > 0; --blocks, ++panel, x += width) tile_block<P>(*panel, x, acc);
}
