// Weights and activations as bfloat16, in the layout of tiles.
//
// A weight is factor * q + offset, q an unsigned byte: one fma, exact where the offset is a multiple of the factor, as
// zero points are. It is then rounded to the nearest bfloat16, halves away from zero: half of the last place is added to
// the bits, and the upper 16 are taken.

// 32 columns of 16 weight rows: columns 2k and 2k + 1 of row n are the low and high half of pairs[k][n].
struct alignas(64) Bf16Tile {
  uint8_t pairs[16][64];
};

// A NaN whose bits are all ones would overflow into a zero when it is rounded.
inline F32 plain_nan(F32 x) {
  return {_mm512_mask_mov_ps(x.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), splat(__builtin_nanf("")).v)};
}

inline I32 rounded_high(F32 x) { return bits(x) + splat_i32(0x8000); }

inline U8 bf16_pair(F32 first, F32 second) {
  return {_mm512_mask_blend_epi16(0xaaaaaaaa, shift_right(rounded_high(first), 16).v, rounded_high(second).v)};
}

struct Line {  // weight = factor * q + offset
  F32 factor, offset;
};

template <int kZero>
inline Line around_zero(F32 factor) {
  return {plain_nan(factor), splat(-static_cast<float>(kZero == kSigned ? 128 : kZero)) * plain_nan(factor)};
}
template <int kZero>
inline Line line_of(const Scaled& s, int) {
  return around_zero<kZero>(s.scale);
}
template <int kZero>
inline Line line_of(const Halves& s, int half) {
  return around_zero<kZero>(s.scale * (half ? s.half1 : s.half0));
}
template <int kZero>
inline Line line_of(const WithMinimum& s, int) {
  return {plain_nan(s.scale), plain_nan(s.minimum)};
}
template <int kZero>
inline Line line_of(const HalvesWithMinimum& s, int half) {
  return {plain_nan(s.scale * (half ? s.half1 : s.half0)), plain_nan(s.minimum * (half ? s.min1 : s.min0))};
}

// A block of 32 columns, its words and scales as forms.h has them.
template <int kZero, class Words, class Form>
inline void put_bf16(const Words& words, const Form& scales, Bf16Tile& tile) {
  const Line lines[2] = {line_of<kZero>(scales, 0), line_of<kZero>(scales, 1)};
  eight_times([&](auto i) {
    const U8 word = words(i);
    const I32 q = {(kZero == kSigned ? word ^ splat_u8(128) : word).v};
    const Line& line = lines[i / 4];
    const auto weight = [&](int byte) { return fma(line.factor, to_f32(byte_of(q, byte)), line.offset); };
    store_u8(tile.pairs[2 * i], bf16_pair(weight(0), weight(1)));
    store_u8(tile.pairs[2 * i + 1], bf16_pair(weight(2), weight(3)));
  });
}

template <class W>
inline void fill_bf16_from_packed(const MatmulArgs& a, int64_t row, int block, int count, Bf16Tile* tiles) {
  constexpr int kBytes = 16 * W::kLayout.block_bytes, kBlocks = W::kLayout.block / 32;
  const uint8_t* w = a.weights + row * row_size_of<W>(a) + int64_t{block} / kBlocks * kBytes;
  for (; count > 0; count -= kBlocks, w += kBytes, tiles += kBlocks)
    W::each(w, [&](int j, const auto& words, const auto& scales) { put_bf16<W::kZero>(words, scales, tiles[j]); });
}

template <class W>
inline void fill_bf16_from_floats(const MatmulArgs& a, int64_t row, int block, int count, Bf16Tile* tiles) {
  const int64_t first = int64_t{block} * 32;
  const auto column = [&](int64_t k) {
    return k < a.cols ? plain_nan(W::at(a.weights + (row * a.cols + 16 * k) * W::kBytes)) : splat(0);
  };
  for (int pair = 0; pair < 16 * count; ++pair)
    store_u8(tiles[pair / 16].pairs[pair % 16], bf16_pair(column(first + 2 * pair), column(first + 2 * pair + 1)));
}

// It rounds a row of activations, whose blocks lie kGroupRows apart.
inline void bf16_row(const float* x, int64_t cols, Bf16Block* out) {
  for (int64_t k = 0; k < cols; k += 32, out += kGroupRows)
    for (int half = 0; half < 32; half += 16) {
      const int64_t left = cols - k - half;
      const F32 values = load_first(x + k + half, left < 0 ? 0 : left < 16 ? static_cast<int>(left) : 16);
      const I32 high = shift_right(rounded_high(plain_nan(values)), 16);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->x + half), _mm512_cvtepi32_epi16(high.v));
    }
}
