// Products of int8 summed in int16: half the instructions of dot4, free to overflow.
#define LLAMAQ_PEAK_STEP
constexpr int kPeakOps = 128, kPeakStride = 4, kPeakChains = 5;
inline I32 peak_step(I32 acc, U8 w, const int8_t* a) {
  int32_t word;
  memcpy(&word, a, 4);
  const int8x8_t b = vreinterpret_s8_s32(vdup_n_s32(word));
  for (int i = 0; i < 4; ++i) {
    const int8x16_t s = vreinterpretq_s8_u8(w.v[i]);
    const int16x8_t sum = vmlal_s8(vreinterpretq_s16_s32(acc.v[i]), vget_low_s8(s), b);
    acc.v[i] = vreinterpretq_s32_s16(vmlal_high_s8(sum, s, vcombine_s8(b, b)));
  }
  return acc;
}
