// Operations on single rows: quantization of activations, norms, sums, activations, rotation.

inline void quantize_row(const float* x, int64_t cols, QuantBlock* out) {
  const int32_t infinity = 0x7f800000, tiny = 0x0d800000;  // the bits of 2^-100
  for (int64_t block = 0; block < cols / 32; ++block, x += 32, ++out) {
    const F32 a = load(x), b = load(x + 16);
    const I32 magnitude = splat_i32(0x7fffffff);
    const int32_t amax_bits = max_lane(max(bits(a) & magnitude, bits(b) & magnitude));
    float amax;
    memcpy(&amax, &amax_bits, 4);
    if (amax_bits < tiny || amax_bits >= infinity) {
      memset(out, 0, sizeof *out);
      if (amax_bits >= infinity) out->d = out->d_sum = __builtin_nanf("");
      continue;
    }
    const F32 inverse = splat(127.0f / amax);
    const I32 qa = round_to_i32(a * inverse), qb = round_to_i32(b * inverse);
    store_i8(out->q, qa);
    store_i8(out->q + 16, qb);
    out->sum[0] = sum(qa);
    out->sum[1] = sum(qb);
    out->d = amax / 127.0f;
    out->d_sum = out->d * static_cast<float>(out->sum[0] + out->sum[1]);
  }
}

inline int lanes_left(int64_t k, int64_t n) { return static_cast<int>(n - k < 16 ? n - k : 16); }

inline void rms_norm(const float* x, const float* w, float eps, int64_t cols, float* y) {
  F32 squares = splat(0);
  for (int64_t k = 0; k < cols; k += 16) {
    const F32 v = load_first(x + k, lanes_left(k, cols));
    squares = fma(v, v, squares);
  }
  const float mean = sum(squares) / static_cast<float>(cols);
  const F32 r = splat(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t k = 0; k < cols; k += 16) {
    const int count = lanes_left(k, cols);
    store_first(y + k, load_first(x + k, count) * r * load_first(w + k, count), count);
  }
}

inline void add(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

inline void scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

inline void swiglu(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) {
    const int count = lanes_left(k, n);
    store_first(y + k, silu(load_first(gate + k, count)) * load_first(up + k, count), count);
  }
}

inline void rope(float* x, int heads, int head_dim, int pairs, bool neighbours, const float* cos, const float* sin) {
  const int step = neighbours ? 2 : 1, other = neighbours ? 1 : pairs;
  for (int head = 0; head < heads; ++head, x += head_dim)
    for (int i = 0; i < pairs; ++i) {
      float* a = x + step * i;
      const float x0 = a[0], x1 = a[other];
      a[0] = __builtin_fmaf(x0, cos[i], -(x1 * sin[i]));
      a[other] = __builtin_fmaf(x0, sin[i], x1 * cos[i]);
    }
}
