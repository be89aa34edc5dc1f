// Eight sums of four products, unsigned weights times signed activations, in one AVX-VNNI instruction. An emulated level
// takes the encoding that CPUs with AVX-512 VNNI know.
#if defined(LLAMAQ_EMULATE)
#define LLAMAQ_DPBUSD "vpdpbusd"
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) { return _mm256_dpbusd_epi32(acc, w, a); }
#else
#define LLAMAQ_DPBUSD "%{vex%} vpdpbusd"
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) { return _mm256_dpbusd_avx_epi32(acc, w, a); }
#endif

// A step of panel_tile: adds w0 times t to sum a and w1 times t to sum b.
// clang-format off
#define LLAMAQ_TILE_STEP(a, b) \
  LLAMAQ_DPBUSD " %[t], %[w0], %[" #a "]\n" LLAMAQ_DPBUSD " %[t], %[w1], %[" #b "]\n"
// clang-format on
