// Eight sums of four products, unsigned weights times signed activations, in one AVX-VNNI instruction.
inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) { return _mm256_dpbusd_avx_epi32(acc, w, a); }
