// Sixteen lanes as one AVX-512 register (F, BW, DQ, VL, CD and VNNI).
// clang-format off: one operation a line
constexpr int kAccumulators = 16;  // F32 sums that the registers hold beside a product's operands

struct F32 { __m512 v; };
struct I32 { __m512i v; };
struct U8 { __m512i v; };  // four bytes for each of 16 lanes

inline F32 splat(float x) { return {_mm512_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void stream(float* p, F32 a) { _mm512_stream_ps(p, a.v); }
inline void stream_end() { _mm_sfence(); }
inline void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
inline __m256i load_256(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline F32 load_f16(const uint8_t* p) { return {_mm512_cvtph_ps(load_256(p))}; }
inline F32 load_bf16(const uint8_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_256(p)), 16))};
}
inline void store_f16(uint8_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
// x < limit ? a : b, and x > limit ? a : b (false where x is NaN)
inline F32 where_less(F32 x, F32 limit, F32 a, F32 b) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ), b.v, a.v)};
}
inline F32 where_greater(F32 x, F32 limit, F32 a, F32 b) { return where_less(limit, x, a, b); }

inline I32 splat_i32(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I32 load_i32(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32 load_u16x16(const uint8_t* p) { return {_mm512_cvtepu16_epi32(load_256(p))}; }
inline __m128i load_128(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline I32 load_i8x16(const uint8_t* p) { return {_mm512_cvtepi8_epi32(load_128(p))}; }
inline I32 load_u8x16(const uint8_t* p) { return {_mm512_cvtepu8_epi32(load_128(p))}; }
inline I32 operator+(I32 a, I32 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I32 operator-(I32 a, I32 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I32 operator*(I32 a, I32 b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
inline I32 operator&(I32 a, I32 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I32 operator|(I32 a, I32 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline I32 shift_left(I32 a, int n) { return {_mm512_slli_epi32(a.v, n)}; }
inline I32 shift_right(I32 a, int n) { return {_mm512_srli_epi32(a.v, n)}; }
inline I32 shift_right_signed(I32 a, int n) { return {_mm512_srai_epi32(a.v, n)}; }
// byte 0 to 3 of each lane, as 0 .. 255
inline I32 byte_of(I32 a, int byte) {
  const __m512i first = _mm512_broadcast_i32x4(_mm_setr_epi32(-256, -252, -248, -244));  // shuffle: byte 0, zeros
  return {_mm512_shuffle_epi8(a.v, _mm512_add_epi32(first, _mm512_set1_epi32(byte)))};
}
inline I32 operator^(I32 a, I32 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline I32 gather(const uint32_t* table, I32 index) { return {_mm512_i32gather_epi32(index.v, table, 4)}; }
inline U8 as_bytes(I32 a) { return {a.v}; }
inline I32 max(I32 a, I32 b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I32 bits(F32 a) { return {_mm512_castps_si512(a.v)}; }
inline F32 from_bits(I32 a) { return {_mm512_castsi512_ps(a.v)}; }
// It rounds to the nearest integer, ties to even, for |x| < 2^22.
inline I32 round_to_i32(F32 a) { return {_mm512_cvtps_epi32(a.v)}; }
inline void store_i8(int8_t* p, I32 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v)); }

inline U8 load_u8(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_u8(uint8_t* p, U8 a) { _mm512_storeu_si512(p, a.v); }
inline U8 splat_u8(uint8_t x) { return {_mm512_set1_epi8(static_cast<char>(x))}; }
inline U8 operator&(U8 a, U8 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline U8 operator|(U8 a, U8 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline U8 operator^(U8 a, U8 b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline U8 operator+(U8 a, U8 b) { return {_mm512_add_epi8(a.v, b.v)}; }
// 3 * byte >> 8
inline U8 carry_of_three(U8 a) {
  const __m512i one = _mm512_set1_epi8(1);
  const __m512i first = _mm512_maskz_mov_epi8(_mm512_cmpge_epu8_mask(a.v, _mm512_set1_epi8(86)), one);
  return {_mm512_mask_add_epi8(first, _mm512_cmpge_epu8_mask(a.v, _mm512_set1_epi8(static_cast<char>(171))), first, one)};
}
// (byte >> shift) & mask; the mask has at most 8 - shift bits, so nothing of a neighbour gets through
inline U8 bit_field(U8 a, int shift, uint8_t mask) { return U8{_mm512_srli_epi16(a.v, shift)} & splat_u8(mask); }
// the bits of `mask`, taken from `from` bits up and put `to` bits up; they must fit a byte in both places
inline U8 move_field(U8 a, int from, int to, int mask) {
  const U8 moved = to > from ? U8{_mm512_slli_epi16(a.v, to - from)} : U8{_mm512_srli_epi16(a.v, from - to)};
  return (to == from ? a : moved) & splat_u8(static_cast<uint8_t>(mask << to));
}
inline U8 lookup(const int8_t* table16, U8 index) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table16));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index.v)};
}
// table[index] for indices 0 .. 31
inline F32 lookup32(const float* table, I32 index) {
  return {_mm512_permutex2var_ps(_mm512_loadu_ps(table), index.v, _mm512_loadu_ps(table + 16))};
}

inline __m512i broadcast4(const int8_t* a) {
  int32_t word;
  memcpy(&word, a, 4);
  return _mm512_set1_epi32(word);
}
// acc[lane] += w[4 lane .. 4 lane + 3] * a[0 .. 3]; weights 0 .. 255
inline I32 dot4(I32 acc, U8 w, const int8_t* a) { return {_mm512_dpbusd_epi32(acc.v, w.v, broadcast4(a))}; }

// Four words of each of 16 rows, `stride` bytes apart, become four times 16 words.
inline __m512i load_rows(const uint8_t* p, ptrdiff_t stride) {  // loads a row and the 4th, 8th and 12th after it
  const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
  const __m512i low = _mm512_inserti32x4(_mm512_castsi128_si512(row(0)), row(4), 1);
  return _mm512_inserti32x4(_mm512_inserti32x4(low, row(8), 2), row(12), 3);
}
inline void transpose_words(const uint8_t* src, ptrdiff_t stride, uint8_t* dst) {
  const __m512i a = load_rows(src, stride), b = load_rows(src + stride, stride);
  const __m512i c = load_rows(src + 2 * stride, stride), d = load_rows(src + 3 * stride, stride);
  const __m512i ab01 = _mm512_unpacklo_epi32(a, b), ab23 = _mm512_unpackhi_epi32(a, b);
  const __m512i cd01 = _mm512_unpacklo_epi32(c, d), cd23 = _mm512_unpackhi_epi32(c, d);
  _mm512_storeu_si512(dst, _mm512_unpacklo_epi64(ab01, cd01));
  _mm512_storeu_si512(dst + 64, _mm512_unpackhi_epi64(ab01, cd01));
  _mm512_storeu_si512(dst + 128, _mm512_unpacklo_epi64(ab23, cd23));
  _mm512_storeu_si512(dst + 192, _mm512_unpackhi_epi64(ab23, cd23));
}

// Folds lanes 8 apart, then 4, 2, 1: the one written order of sums across lanes.
inline float sum(F32 a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
inline float max_lane(F32 a) {
  const __m256 m8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_shuffle_ps(m2, m2, 1)));
}
inline int32_t max_lane(I32 a) { return _mm512_reduce_max_epi32(a.v); }
inline int32_t sum(I32 a) { return _mm512_reduce_add_epi32(a.v); }
