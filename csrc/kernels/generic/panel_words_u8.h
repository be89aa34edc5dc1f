// Words as panels hold them, for sums_u8.h.

constexpr int kPanelSigned = 128;  // what signed weights become in a panel

// A word as panels hold it.
template <int kZero>
inline U8 panel_word(U8 w) {
  return kZero == kSigned ? w ^ splat_u8(128) : w;
}
