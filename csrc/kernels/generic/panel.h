// A panel: blocks of 32 weights of 16 rows, unpacked to bytes and float scales in the order in which a micro-kernel
// reads them. It is filled once and multiplied with every row of x.

template <class Form>
struct alignas(64) Panel {
  static constexpr int kScales = sizeof(Form) / sizeof(F32);
  uint8_t words[8][64];       // weights 4i .. 4i+3 of the 16 rows
  float scales[kScales][16];  // the members of Form, one after the other
};
template <class W>
using PanelOf = Panel<typename W::Form>;

inline void put_scales(float (*out)[16], const Scaled& s) { store(out[0], s.scale); }
inline void put_scales(float (*out)[16], const WithMinimum& s) { store(out[0], s.scale), store(out[1], s.minimum); }
inline void put_scales(float (*out)[16], const Halves& s) {
  store(out[0], s.scale), store(out[1], s.half0), store(out[2], s.half1);
}
inline void put_scales(float (*out)[16], const HalvesWithMinimum& s) {
  store(out[0], s.scale), store(out[1], s.half0), store(out[2], s.half1);
  store(out[3], s.minimum), store(out[4], s.min0), store(out[5], s.min1);
}

inline Scaled scales_of(const Panel<Scaled>& p) { return {load(p.scales[0])}; }
inline WithMinimum scales_of(const Panel<WithMinimum>& p) { return {load(p.scales[0]), load(p.scales[1])}; }
inline Halves scales_of(const Panel<Halves>& p) { return {load(p.scales[0]), load(p.scales[1]), load(p.scales[2])}; }
inline HalvesWithMinimum scales_of(const Panel<HalvesWithMinimum>& p) {
  return {load(p.scales[0]), load(p.scales[1]), load(p.scales[2]),
          load(p.scales[3]), load(p.scales[4]), load(p.scales[5])};
}

// Bytes of 32 columns of 16 packed rows.
template <class W>
constexpr int packed_block_bytes() {
  return 16 * W::kLayout.block_bytes / (W::kLayout.block / 32);
}

template <class W, class Words>
inline void fill_block(const Words& words, const typename W::Form& scales, PanelOf<W>* block) {
  eight_times([&](auto i) { store_u8(block->words[i], panel_word<W::kZero>(words(i))); });
  put_scales(block->scales, scales);
}

// What a micro-kernel knows of a format: those that agree in it share one.
template <class F, int kZeroPoint>
struct Filled {
  using Form = F;
  static constexpr int kZero = kZeroPoint;
};
template <class W>
using InPanel = Filled<typename W::Form, kZeroInPanel<W::kZero>>;

struct PanelWords {
  const uint8_t (*words)[64];
  U8 operator()(int i) const { return load_u8(words[i]); }
};
