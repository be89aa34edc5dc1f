// Eight sums of four products, weights 0 .. 128 times signed activations, in AVX2. Sums of two products fit int16 while
// weights stay below 130: maddubs does not saturate.
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
}

// A step of panel_tile: adds w0 times t to sum a and w1 times t to sum b, in 16-bit lanes.
// clang-format off
#define LLAMAQ_TILE_STEP(a, b)                                       \
  "vpmaddubsw %[t], %[w0], %[t2]\n" "vpmaddubsw %[t], %[w1], %[t]\n" \
  "vpaddw %[t2], %[" #a "], %[" #a "]\n" "vpaddw %[t], %[" #b "], %[" #b "]\n"
// clang-format on
