// dot4 is one instruction here; two start in a cycle and each takes five, so ten must be under way. All chains share
// their activations, which then stay in registers: loads would come in the way.
#define LLAMAQ_PEAK_STEP
constexpr int kPeakOps = 128, kPeakStride = 0, kPeakChains = 12;
inline I32 peak_step(I32 acc, U8 w, const int8_t* a) { return dot4(acc, w, a); }
