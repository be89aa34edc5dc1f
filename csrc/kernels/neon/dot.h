// Four sums of four signed products. Two products fit int16, as activations reach 127 only: 127 * 128 * 2 < 2^15.
inline int32x4_t dot4_quad(int32x4_t acc, int8x16_t w, int8x16_t a) {
  const int16x8_t lo = vmull_s8(vget_low_s8(w), vget_low_s8(a)), hi = vmull_high_s8(w, a);
  return vpadalq_s16(acc, vpaddq_s16(lo, hi));
}
