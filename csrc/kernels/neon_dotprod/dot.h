// Four sums of four signed products in one instruction of the dot-product extension.
inline int32x4_t dot4_quad(int32x4_t acc, int8x16_t w, int8x16_t a) { return vdotq_s32(acc, w, a); }
