// Sixteen lanes as two AVX2 registers (with FMA and F16C). dot4_half comes from the level's dot.h.
// clang-format off: one operation a line
constexpr int kAccumulators = 6;  // F32 sums that the registers hold beside a product's operands

struct F32 { __m256 lo, hi; };
struct I32 { __m256i lo, hi; };
struct U8 { __m256i lo, hi; };  // four bytes for each of 16 lanes

inline F32 splat(float x) { const __m256 v = _mm256_set1_ps(x); return {v, v}; }
inline F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void stream(float* p, F32 a) { _mm256_stream_ps(p, a.lo); _mm256_stream_ps(p + 8, a.hi); }
inline void stream_end() { _mm_sfence(); }
inline void store(float* p, F32 a) { _mm256_storeu_ps(p, a.lo); _mm256_storeu_ps(p + 8, a.hi); }
inline __m128i load_half(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m256i load_256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline F32 load_f16(const uint8_t* p) { return {_mm256_cvtph_ps(load_half(p)), _mm256_cvtph_ps(load_half(p + 16))}; }
inline __m256 widen_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
inline F32 load_bf16(const uint8_t* p) { return {widen_bf16(load_half(p)), widen_bf16(load_half(p + 16))}; }
inline void store_f16(uint8_t* p, F32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
// x < limit ? a : b, and x > limit ? a : b (false where x is NaN)
inline F32 where_less(F32 x, F32 limit, F32 a, F32 b) {
  return {_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ))};
}
inline F32 where_greater(F32 x, F32 limit, F32 a, F32 b) { return where_less(limit, x, a, b); }

inline I32 splat_i32(int32_t x) { const __m256i v = _mm256_set1_epi32(x); return {v, v}; }
inline I32 load_i32(const uint8_t* p) { return {load_256(p), load_256(p + 32)}; }
inline I32 load_u16x16(const uint8_t* p) {
  return {_mm256_cvtepu16_epi32(load_half(p)), _mm256_cvtepu16_epi32(load_half(p + 16))};
}
inline __m128i load_quarter(const uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
inline I32 load_i8x16(const uint8_t* p) {
  return {_mm256_cvtepi8_epi32(load_quarter(p)), _mm256_cvtepi8_epi32(load_quarter(p + 8))};
}
inline I32 load_u8x16(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(load_quarter(p)), _mm256_cvtepu8_epi32(load_quarter(p + 8))};
}
inline I32 operator+(I32 a, I32 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline I32 operator-(I32 a, I32 b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
inline I32 operator*(I32 a, I32 b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
inline I32 operator&(I32 a, I32 b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
inline I32 operator|(I32 a, I32 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline I32 shift_left(I32 a, int n) { return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)}; }
inline I32 shift_right(I32 a, int n) { return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)}; }
inline I32 shift_right_signed(I32 a, int n) { return {_mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n)}; }
// byte 0 to 3 of each lane, as 0 .. 255
inline I32 byte_of(I32 a, int byte) {
  const __m256i first = _mm256_setr_epi32(-256, -252, -248, -244, -256, -252, -248, -244);  // shuffle: byte 0, zeros
  const __m256i pick = _mm256_add_epi32(first, _mm256_set1_epi32(byte));
  return {_mm256_shuffle_epi8(a.lo, pick), _mm256_shuffle_epi8(a.hi, pick)};
}
inline I32 operator^(I32 a, I32 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
// One lane after the other: many CPUs take 28 cycles for a vpgatherdd since their microcode closes a leak (Downfall).
inline __m256i gather_half(const uint32_t* table, __m256i index) {
  alignas(32) uint32_t at[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(at), index);
  const auto word = [&](int i) { return static_cast<int>(table[at[i]]); };
  return _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
}
inline I32 gather(const uint32_t* table, I32 index) {
  return {gather_half(table, index.lo), gather_half(table, index.hi)};
}
inline U8 as_bytes(I32 a) { return {a.lo, a.hi}; }
inline I32 max(I32 a, I32 b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }
inline F32 to_f32(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline I32 bits(F32 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
inline F32 from_bits(I32 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
// It rounds to the nearest integer, ties to even, for |x| < 2^22.
inline I32 round_to_i32(F32 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
inline void store_i8(int8_t* p, I32 a) {
  __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

inline U8 load_u8(const uint8_t* p) { return {load_256(p), load_256(p + 32)}; }
inline void store_u8(uint8_t* p, U8 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), a.hi);
}
inline U8 splat_u8(uint8_t x) { const __m256i v = _mm256_set1_epi8(static_cast<char>(x)); return {v, v}; }
inline U8 operator&(U8 a, U8 b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
inline U8 operator|(U8 a, U8 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline U8 operator^(U8 a, U8 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
inline U8 operator+(U8 a, U8 b) { return {_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)}; }
// 3 * byte >> 8, counted from below: 2 minus one where 3 * byte < 256 and one where it is < 512
inline __m256i carry_of_three_half(__m256i a) {
  const __m256i s = _mm256_xor_si256(a, _mm256_set1_epi8(-128));  // the comparison is one of signed bytes
  const __m256i below1 = _mm256_cmpgt_epi8(_mm256_set1_epi8(86 - 128), s);
  const __m256i below2 = _mm256_cmpgt_epi8(_mm256_set1_epi8(171 - 128), s);
  return _mm256_add_epi8(_mm256_set1_epi8(2), _mm256_add_epi8(below1, below2));
}
inline U8 carry_of_three(U8 a) { return {carry_of_three_half(a.lo), carry_of_three_half(a.hi)}; }
// (byte >> shift) & mask; the mask has at most 8 - shift bits, so nothing of a neighbour gets through
inline U8 bit_field(U8 a, int shift, uint8_t mask) {
  return U8{_mm256_srli_epi16(a.lo, shift), _mm256_srli_epi16(a.hi, shift)} & splat_u8(mask);
}
// the bits of `mask`, taken from `from` bits up and put `to` bits up; they must fit a byte in both places
inline U8 move_field(U8 a, int from, int to, int mask) {
  const U8 moved = to > from ? U8{_mm256_slli_epi16(a.lo, to - from), _mm256_slli_epi16(a.hi, to - from)}
                             : U8{_mm256_srli_epi16(a.lo, from - to), _mm256_srli_epi16(a.hi, from - to)};
  return (to == from ? a : moved) & splat_u8(static_cast<uint8_t>(mask << to));
}
inline U8 lookup(const int8_t* table16, U8 index) {
  const __m256i table = _mm256_broadcastsi128_si256(load_half(reinterpret_cast<const uint8_t*>(table16)));
  return {_mm256_shuffle_epi8(table, index.lo), _mm256_shuffle_epi8(table, index.hi)};
}
// table[index] for indices 0 .. 31; a gather would take several times as long
inline __m256 lookup32_half(const float* table, __m256i index) {
  const auto eight = [&](int i) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8 * i), index); };
  const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
  const __m256 bit4 = _mm256_castsi256_ps(_mm256_slli_epi32(index, 27));
  return _mm256_blendv_ps(_mm256_blendv_ps(eight(0), eight(1), bit3), _mm256_blendv_ps(eight(2), eight(3), bit3), bit4);
}
inline F32 lookup32(const float* table, I32 index) {
  return {lookup32_half(table, index.lo), lookup32_half(table, index.hi)};
}

inline __m256i broadcast4(const int8_t* a) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(a)));
}
// acc[lane] += w[4 lane .. 4 lane + 3] * a[0 .. 3]; weights 0 .. 127
inline I32 dot4(I32 acc, U8 w, const int8_t* a) {
  const __m256i b = broadcast4(a);
  return {dot4_half(acc.lo, w.lo, b), dot4_half(acc.hi, w.hi, b)};
}
// the same for signed weights: |w| times sign(w) * a
inline I32 dot4_signed(I32 acc, U8 w, const int8_t* a) {
  const __m256i b = broadcast4(a);
  return {dot4_half(acc.lo, _mm256_sign_epi8(w.lo, w.lo), _mm256_sign_epi8(b, w.lo)),
          dot4_half(acc.hi, _mm256_sign_epi8(w.hi, w.hi), _mm256_sign_epi8(b, w.hi))};
}

// Four words of each of 16 rows, `stride` bytes apart, become four times 16 words.
inline __m256i load_rows(const uint8_t* p, ptrdiff_t stride) {  // loads a row and the fourth after it
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_half(p)), load_half(p + 4 * stride), 1);
}
inline void transpose_words(const uint8_t* src, ptrdiff_t stride, uint8_t* dst) {
  for (int half = 0; half < 2; ++half, src += 8 * stride, dst += 32) {
    const __m256i a = load_rows(src, stride), b = load_rows(src + stride, stride);
    const __m256i c = load_rows(src + 2 * stride, stride), d = load_rows(src + 3 * stride, stride);
    const __m256i ab01 = _mm256_unpacklo_epi32(a, b), ab23 = _mm256_unpackhi_epi32(a, b);
    const __m256i cd01 = _mm256_unpacklo_epi32(c, d), cd23 = _mm256_unpackhi_epi32(c, d);
    __m256i* out = reinterpret_cast<__m256i*>(dst);
    _mm256_storeu_si256(out, _mm256_unpacklo_epi64(ab01, cd01));
    _mm256_storeu_si256(out + 2, _mm256_unpackhi_epi64(ab01, cd01));
    _mm256_storeu_si256(out + 4, _mm256_unpacklo_epi64(ab23, cd23));
    _mm256_storeu_si256(out + 6, _mm256_unpackhi_epi64(ab23, cd23));
  }
}

// Folds lanes 8 apart, then 4, 2, 1: the one written order of sums across lanes.
inline float sum(F32 a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
inline float max_lane(F32 a) {
  const __m256 m8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_shuffle_ps(m2, m2, 1)));
}
inline int32_t max_lane(I32 a) {
  const __m256i m8 = _mm256_max_epi32(a.lo, a.hi);
  const __m128i m4 = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
  const __m128i m2 = _mm_max_epi32(m4, _mm_shuffle_epi32(m4, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(m2, _mm_shuffle_epi32(m2, 0xb1)));
}
inline int32_t sum(I32 a) {
  const __m256i s8 = _mm256_add_epi32(a.lo, a.hi);
  const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
  const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xb1)));
}
