// Products of int8 summed in int16: one instruction less than dot4, free to overflow.
#define LLAMAQ_PEAK_STEP
constexpr int kPeakOps = 128, kPeakStride = 64, kPeakChains = 4;
inline I32 peak_step(I32 acc, U8 w, const int8_t* a) {
  const uint8_t* b = reinterpret_cast<const uint8_t*>(a);
  acc.lo = _mm256_add_epi16(acc.lo, _mm256_maddubs_epi16(w.lo, load_256(b)));
  acc.hi = _mm256_add_epi16(acc.hi, _mm256_maddubs_epi16(w.hi, load_256(b + 32)));
  __asm__ volatile("" : "+x"(acc.lo), "+x"(acc.hi));  // GCC would make all products first, and keep them in memory
  return acc;
}
