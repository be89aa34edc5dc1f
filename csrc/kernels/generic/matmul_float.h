// y = x * W^T for float weights.

constexpr int kFloatTileRows = 4;

// Float weights: acc = fma(w, x, acc) over the columns in ascending order.
struct WeightsF32 {
  static constexpr int kBytes = 4;
  static F32 at(const uint8_t* p) { return from_bits(load_i32(p)); }
};
struct WeightsF16 {
  static constexpr int kBytes = 2;
  static F32 at(const uint8_t* p) { return load_f16(p); }
};
struct WeightsBF16 {
  static constexpr int kBytes = 2;
  static F32 at(const uint8_t* p) { return load_bf16(p); }
};

// Adds columns [first, last) to the sums in y (or starts them, where first is 0); w points at column `first`.
template <class W, int M>
inline void float_tile(const MatmulArgs& a, const uint8_t* w, int row_x, int64_t row_w, int64_t first, int64_t last) {
  const float* x = static_cast<const float*>(a.x) + row_x * a.cols;
  float* y = a.y + row_x * a.y_stride + (row_w - a.begin);
  const int lanes = lanes_of(a, row_w);
  F32 acc[M];
  for (int m = 0; m < M; ++m) acc[m] = first ? load_first(y + m * a.y_stride, lanes) : splat(0);
  for (int64_t k = first; k < last; ++k, w += 16 * W::kBytes) {
    if (a.m <= kFloatTileRows) __builtin_prefetch(w + kPrefetch);
    const F32 weight = W::at(w);
    for (int m = 0; m < M; ++m) acc[m] = fma(weight, splat(x[m * a.cols + k]), acc[m]);
  }
  for (int m = 0; m < M; ++m) store_first(y + m * a.y_stride, acc[m], lanes);
}

template <class W>
inline void float_rows(const MatmulArgs& a, const uint8_t* w, int64_t row_w, int64_t first, int64_t last) {
  int m = 0;
  for (; m + kFloatTileRows <= a.m; m += kFloatTileRows) float_tile<W, kFloatTileRows>(a, w, m, row_w, first, last);
  switch (a.m - m) {
    case 1: float_tile<W, 1>(a, w, m, row_w, first, last); break;
    case 2: float_tile<W, 2>(a, w, m, row_w, first, last); break;
    case 3: float_tile<W, 3>(a, w, m, row_w, first, last); break;
  }
}

template <class W>
inline void matmul_float(const MatmulArgs& a) {
  for (int64_t row = a.begin; row < a.end; row += 16)
    float_rows<W>(a, a.weights + row * a.cols * W::kBytes, row, 0, a.cols);
}
