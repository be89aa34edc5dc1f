// A few rows of x leave tiles empty: they are multiplied as the avx512 level does it, and by its code.

constexpr int kDirectRows = 8;

template <class W>
constexpr int kSlot = 0;
#define X(format) \
  template <>     \
  constexpr int kSlot<format> = static_cast<int>(Format::format);
LLAMAQ_QUANTIZED_LIST(X)
#undef X

template <class W>
inline void direct_group(const MatmulArgs& a, const uint8_t* w, const QuantBlock* x, int rows, float* y, int lanes) {
  llamaq_table_avx512.matmul[kSlot<W>].run({w, x, rows, lanes, a.cols, 0, lanes, y, a.y_stride});
}

template <class W>
constexpr int most_direct_rows() {
  return kDirectRows;
}
