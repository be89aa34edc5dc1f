// Integer sums of one block of 32 weights in 32-bit lanes, for levels whose byte product takes weights 0 .. 255 and
// adds into int32.

struct Sum {
  I32 v;
};  // of weights 0 .. 127 that start at a zero point
struct SignedSum {
  I32 v;
};  // of signed weights

// Half 0 or 1 of the block, or kWhole. The sum starts at -kZero * sum(q), so that q * w needs no correction.
constexpr int kWhole = -1;
constexpr bool kNarrowSums = false;  // a sum of five-bit weights needs no zero point to fit

template <int kZero>
inline Sum start(const QuantBlock& a, int half) {
  static_assert(kZero == 0 || kZero == 4 || kZero == 8 || kZero == 16 || kZero == 32 || kZero == 128,
                "no sum for this zero point");
  if (kZero == 0) return {splat_i32(0)};
  if (half != kWhole) return {splat_i32(a.zero32[half] / (kZero && kZero < 32 ? 32 / kZero : 1))};
  return {splat_i32(kZero == 8 ? a.zero8 : kZero == 16 ? a.zero16 : 8 * a.zero16)};
}
inline Sum dot(Sum s, U8 w, const int8_t* a) { return {dot4(s.v, w, a)}; }
inline I32 total(Sum s) { return s.v; }

inline SignedSum start_signed(const QuantBlock& a) { return {splat_i32(8 * a.zero16)}; }
inline SignedSum dot(SignedSum s, U8 w, const int8_t* a) { return {dot4(s.v, w ^ splat_u8(128), a)}; }
inline I32 total(SignedSum s) { return s.v; }
