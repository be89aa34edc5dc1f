// The micro-kernel of AVX-512 VNNI: up to sixteen rows of x times a panel, one register of sixteen outputs a row.
//
// A block's eight words stay in registers; each row adds its products to one integer sum with eight vpdpbusd, whose
// activations are broadcast from memory by the instruction itself (assembly: gcc 12 loads them apart). Four rows run
// interleaved, because a sum waits five cycles for its next product. Eleven instructions of the two 512-bit ports for
// 16 x 32 products, eight of which multiply.

template <class W>
constexpr int most_tile_rows() {
  return PanelOf<W>::kScales < 3 ? 16 : 8;  // two sums a row leave registers for eight rows
}

struct TileWords {
  __m512i w0, w1, w2, w3, w4, w5, w6, w7;
};
inline TileWords words_of(const uint8_t (*p)[64]) {
  return {_mm512_load_si512(p[0]), _mm512_load_si512(p[1]), _mm512_load_si512(p[2]), _mm512_load_si512(p[3]),
          _mm512_load_si512(p[4]), _mm512_load_si512(p[5]), _mm512_load_si512(p[6]), _mm512_load_si512(p[7])};
}

struct FourSums {
  __m512i s0, s1, s2, s3;
};

// clang-format off
#define LLAMAQ_WORD(word, offset)                                                                       \
  "vpdpbusd " #offset "(%[x])%{1to16%}, %[" #word "], %[s0]\n"                                            \
  "vpdpbusd 64+" #offset "(%[x])%{1to16%}, %[" #word "], %[s1]\n"                                         \
  "vpdpbusd 128+" #offset "(%[x])%{1to16%}, %[" #word "], %[s2]\n"                                        \
  "vpdpbusd 192+" #offset "(%[x])%{1to16%}, %[" #word "], %[s3]\n"
// clang-format on

// s += half of a block's words times the activations q of four rows
inline void add_half(FourSums& s, __m512i w0, __m512i w1, __m512i w2, __m512i w3, const int8_t* q) {
  asm(LLAMAQ_WORD(w0, 0) LLAMAQ_WORD(w1, 4) LLAMAQ_WORD(w2, 8) LLAMAQ_WORD(w3, 12)
      : [s0] "+v"(s.s0), [s1] "+v"(s.s1), [s2] "+v"(s.s2), [s3] "+v"(s.s3)
      : [w0] "v"(w0), [w1] "v"(w1), [w2] "v"(w2), [w3] "v"(w3), [x] "r"(q),
        "m"(*reinterpret_cast<const QuantBlock(*)[4]>(q)));
}
#undef LLAMAQ_WORD

template <int kZero>
inline FourSums start_four(const QuantBlock* x, int half) {
  return {start<kZero>(x[0], half).v.v, start<kZero>(x[1], half).v.v, start<kZero>(x[2], half).v.v,
          start<kZero>(x[3], half).v.v};
}

template <int kZero>
inline FourSums whole_four(const TileWords& w, const QuantBlock* x) {
  FourSums s = start_four<kZero>(x, kWhole);
  add_half(s, w.w0, w.w1, w.w2, w.w3, x->q);
  add_half(s, w.w4, w.w5, w.w6, w.w7, x->q + 16);
  return s;
}

template <int kZero>
inline FourSums half_four(const TileWords& w, const QuantBlock* x, int half) {
  FourSums s = start_four<kZero>(x, half);
  if (half)
    add_half(s, w.w4, w.w5, w.w6, w.w7, x->q + 16);
  else
    add_half(s, w.w0, w.w1, w.w2, w.w3, x->q);
  return s;
}

// f(row, its sum)
template <class F>
inline void each_row(const FourSums& s, const F& f) {
  f(0, I32{s.s0}), f(1, I32{s.s1}), f(2, I32{s.s2}), f(3, I32{s.s3});
}

template <class W>
inline void four_rows(const TileWords& w, const Scaled& p, const QuantBlock* x, F32* acc) {
  each_row(whole_four<W::kZero>(w, x),
           [&](int m, I32 s) { acc[m] = fma(to_f32(s), block_scale(p.scale, x[m]), acc[m]); });
}

template <class W>
inline void four_rows(const TileWords& w, const WithMinimum& p, const QuantBlock* x, F32* acc) {
  each_row(whole_four<0>(w, x), [&](int m, I32 s) {
    const F32 with_minimum = fma(p.minimum, splat(x[m].d_sum), acc[m]);
    acc[m] = fma(to_f32(s), block_scale(p.scale, x[m]), with_minimum);
  });
}

template <class W>
inline void four_halves(const TileWords& w, F32 scale, F32 half0, F32 half1, const QuantBlock* x, F32* acc) {
  F32 isum[4];
  each_row(half_four<W::kZero>(w, x, 0), [&](int m, I32 s) { isum[m] = half0 * to_f32(s); });
  each_row(half_four<W::kZero>(w, x, 1),
           [&](int m, I32 s) { acc[m] = fma(fma(half1, to_f32(s), isum[m]), block_scale(scale, x[m]), acc[m]); });
}

template <class W>
inline void four_rows(const TileWords& w, const Halves& p, const QuantBlock* x, F32* acc) {
  four_halves<W>(w, p.scale, p.half0, p.half1, x, acc);
}

template <class W>
inline void four_rows(const TileWords& w, const HalvesWithMinimum& p, const QuantBlock* x, F32* acc) {
  add_minimums<4>(p, x, acc);
  four_halves<W>(w, p.scale, p.half0, p.half1, x, acc);
}

template <class W, int kRows>
inline void panel_tile(const PanelOf<W>* panel, int blocks, const QuantBlock* x, int width, F32* acc) {
  F32 sums[kRows];
  for (int m = 0; m < kRows; ++m) sums[m] = acc[m];
  for (; blocks > 0; --blocks, ++panel, x += width) {
    const TileWords w = words_of(panel->words);
    const auto scales = scales_of(*panel);
    four_rows<InPanel<W>>(w, scales, x, sums);
    if constexpr (kRows > 4) four_rows<InPanel<W>>(w, scales, x + 4, sums + 4);
    if constexpr (kRows > 8) four_rows<InPanel<W>>(w, scales, x + 8, sums + 8);
    if constexpr (kRows > 12) four_rows<InPanel<W>>(w, scales, x + 12, sums + 12);
  }
  for (int m = 0; m < kRows; ++m) acc[m] = sums[m];
}
