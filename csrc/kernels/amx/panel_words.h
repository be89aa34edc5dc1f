// Words as panels hold them: signed, without their zero point.

// Nothing is left of a zero point.
template <int kZero>
constexpr int kZeroInPanel = 0;

template <int kZero>
inline U8 panel_word(U8 w) {
  return kZero > 0 ? U8{_mm512_sub_epi8(w.v, splat_u8(kZero).v)} : w;
}
