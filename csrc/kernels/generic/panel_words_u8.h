// Words as panels hold them, for sums_u8.h.

// The zero point of the weights in a panel.
template <int kZero>
constexpr int kZeroInPanel = kZero == kSigned ? 128 : kZero;

// A word as panels hold it.
template <int kZero>
inline U8 panel_word(U8 w) {
  return kZero == kSigned ? w ^ splat_u8(128) : w;
}
