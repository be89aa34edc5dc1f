// Eight sums of four products, unsigned weights times signed activations, in one AVX-VNNI instruction.
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) {
#if defined(LLAMAQ_EMULATE)  // the same sums in the encoding that CPUs with AVX-512 VNNI know
  return _mm256_dpbusd_epi32(acc, w, a);
#else
  return _mm256_dpbusd_avx_epi32(acc, w, a);
#endif
}
