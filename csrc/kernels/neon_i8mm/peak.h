// Products of 2x8 by 8x2 matrices: twice the operations of a product by lanes.
#define LLAMAQ_PEAK_STEP
constexpr int kPeakOps = 256, kPeakStride = 16, kPeakChains = 5;
inline I32 peak_step(I32 acc, U8 w, const int8_t* a) {
  const int8x16_t b = vld1q_s8(a);
  for (int i = 0; i < 4; ++i) acc.v[i] = vmmlaq_s32(acc.v[i], vreinterpretq_s8_u8(w.v[i]), b);
  return acc;
}
