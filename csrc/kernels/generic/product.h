// Products of small matrices of floats: C[row][col] (+)= sum over k of A[row][k] * B[k][col], each one chain of fma over
// k. Some rows by one or two registers of columns stand in registers; a row's A begin kRowStride after the one before.
//
// What is unrolled here is so by templates: from plain loops gcc 12 passes all sums through memory twice.

struct Product {
  const float* a;
  ptrdiff_t a_step;
  const uint8_t* b;  // floats or halves
  ptrdiff_t b_step;  // elements
  int count, width;  // terms of each sum, and columns (a multiple of 16)
  float* c;
  ptrdiff_t c_stride;
  bool fresh;            // C starts from zero
  const uint8_t* ahead;  // memory that will be read next
  int ahead_bytes;
};

struct LoadF32 {
  static constexpr int kBytes = 4;
  static F32 at(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct LoadF16 {
  static constexpr int kBytes = 2;
  static F32 at(const uint8_t* p) { return load_f16(p); }
};

template <class B, int kRows, int V, int kRowStride>
inline void columns(const Product& p, int col, const uint8_t* ahead, int ahead_step) {
  const float* a = p.a;
  const uint8_t* b = p.b + col * B::kBytes;
  F32 sum[kRows * V];
  const auto c = [&](int i) { return p.c + i / V * p.c_stride + col + 16 * (i % V); };
  times<kRows * V>([&](auto i) { sum[i] = p.fresh ? splat(0) : load(c(i)); });
  for (int k = 0; k < p.count; ++k, a += p.a_step, b += p.b_step * B::kBytes, ahead += ahead_step) {
    __builtin_prefetch(ahead);
    F32 row[V];
    times<V>([&](auto v) { row[v] = B::at(b + 16 * v * B::kBytes); });
    times<kRows>([&](auto i) {
      const F32 x = splat(a[i * kRowStride]);
      times<V>([&](auto v) { sum[i * V + v] = fma(x, row[v], sum[i * V + v]); });
    });
  }
  times<kRows * V>([&](auto i) { store(c(i), sum[i]); });
}

template <class B, int kRows, int kRowStride>
inline void product(const Product& p) {
  constexpr int V = 2 * kRows <= kAccumulators ? 2 : 1;
  const int ahead_part = p.ahead_bytes ? p.ahead_bytes / ((p.width + 16 * V - 1) / (16 * V)) : 0;
  const int ahead_step = p.ahead_bytes ? ahead_part / p.count : 0;
  const uint8_t* ahead = p.ahead;
  int col = 0;
  for (; col + 16 * V <= p.width; col += 16 * V, ahead += ahead_part)
    columns<B, kRows, V, kRowStride>(p, col, ahead, ahead_step);
  if (V > 1 && col < p.width) columns<B, kRows, 1, kRowStride>(p, col, ahead, ahead_step);
}

constexpr int kProductRows = kAccumulators <= 8 ? kAccumulators : kAccumulators / 2;  // rows at once

template <class B, int kRowStride, int kRows = kProductRows>
inline void product_of(int rows, const Product& p) {
  if (rows == kRows)
    product<B, kRows, kRowStride>(p);
  else if constexpr (kRows > 1)
    product_of<B, kRowStride, kRows - 1>(rows, p);
}
