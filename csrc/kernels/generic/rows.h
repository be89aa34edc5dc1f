// Operations on single rows: quantization of activations, norms, sums, activations, rotation.

// Sums of q[i] with i % 4 in {0, 1} and in {2, 3}. Bytes are made 0 .. 255 and added as lanes of 16 bits in a register of
// 64: from a plain loop GCC takes every byte out of a vector by itself.
inline void pair_sums(const int8_t* q, int16_t* pair) {
  const uint64_t low_bytes = 0x00ff00ff00ff00ff, flip = 0x8080808080808080;
  uint64_t lanes = 0;
  for (int i = 0; i < 16; i += 8) {
    uint64_t eight;
    memcpy(&eight, q + i, 8);
    eight ^= flip;
    lanes += (eight & low_bytes) + (eight >> 8 & low_bytes);
  }
  lanes += lanes >> 32;
  pair[0] = static_cast<int16_t>((lanes & 0xffff) - 8 * 128);
  pair[1] = static_cast<int16_t>((lanes >> 16 & 0xffff) - 8 * 128);
}

inline void quantize_row(const float* x, int64_t cols, QuantBlock* out, int64_t stride) {
  const int32_t infinity = 0x7f800000, tiny = 0x0d800000;  // the bits of infinity and of 2^-100
  for (int64_t block = 0; block < cols / 32; ++block, x += 32, out += stride) {
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
    store_i8(out->q, round_to_i32(a * inverse));
    store_i8(out->q + 16, round_to_i32(b * inverse));
    pair_sums(out->q, out->pair[0]);
    pair_sums(out->q + 16, out->pair[1]);
    const int low = out->pair[0][0] + out->pair[0][1], high = out->pair[1][0] + out->pair[1][1];
    out->zero8 = -8 * (low + high);
    out->zero16 = -16 * (low + high);
    out->zero32[0] = -32 * low;
    out->zero32[1] = -32 * high;
    out->d = amax / 127.0f;
    out->d_sum = out->d * static_cast<float>(low + high);
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
    const F32 v = load_first(x + k, count) * r;
    store_first(y + k, w ? v * load_first(w + k, count) : v, count);
  }
}

inline void layer_norm(const float* x, const float* w, const float* b, float eps, int64_t cols, float* y) {
  F32 total = splat(0), squares = splat(0);
  for (int64_t k = 0; k < cols; k += 16) total = total + load_first(x + k, lanes_left(k, cols));
  const F32 mean = splat(sum(total) / static_cast<float>(cols));
  for (int64_t k = 0; k < cols; k += 16) {
    const int count = lanes_left(k, cols);
    store_first(y + k, load_first(x + k, count) - mean, count);
    const F32 v = load_first(y + k, count);  // lanes behind the row are zeros again
    squares = fma(v, v, squares);
  }
  const F32 r = splat(1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(cols) + eps));
  for (int64_t k = 0; k < cols; k += 16) {
    const int count = lanes_left(k, cols);
    F32 v = load_first(y + k, count) * r;
    if (w) v = v * load_first(w + k, count);
    if (b) v = v + load_first(b + k, count);
    store_first(y + k, v, count);
  }
}

inline void add(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

inline void scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

inline void softcap(float* x, float cap, int64_t n) {
  const F32 c = splat(cap);
  for (int64_t k = 0; k < n; k += 16) {
    const int count = lanes_left(k, n);
    store_first(x + k, c * tanh(load_first(x + k, count) / c), count);
  }
}

template <F32 (*kActivation)(F32)>
inline void activate(const float* x, float* y, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) {
    const int count = lanes_left(k, n);
    store_first(y + k, kActivation(load_first(x + k, count)), count);
  }
}

template <F32 (*kGated)(F32, F32)>
inline void glu(const float* gate, const float* up, float* y, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) {
    const int count = lanes_left(k, n);
    store_first(y + k, kGated(load_first(gate + k, count), load_first(up + k, count)), count);
  }
}

inline void exp_row(const float* x, float top, float* y, int64_t n) {
  for (int64_t k = 0; k < n; k += 16) {
    const int count = lanes_left(k, n);
    store_first(y + k, exp_nonpositive(load_first(x + k, count) - splat(top)), count);
  }
}

// It turns one head, with steps that the compiler knows, so that it can use vectors.
template <bool kNeighbours>
inline void rotate(float* __restrict x, int pairs, const float* __restrict cos, const float* __restrict sin) {
  for (int i = 0; i < pairs; ++i) {
    float& a = x[kNeighbours ? 2 * i : i];
    float& b = x[kNeighbours ? 2 * i + 1 : i + pairs];
    const float x0 = a, x1 = b;
    a = __builtin_fmaf(x0, cos[i], -(x1 * sin[i]));
    b = __builtin_fmaf(x0, sin[i], x1 * cos[i]);
  }
}

inline void rope(float* x, int heads, int head_dim, int pairs, bool neighbours, const float* cos, const float* sin) {
  for (int head = 0; head < heads; ++head, x += head_dim) {
    if (neighbours)
      rotate<true>(x, pairs, cos, sin);
    else
      rotate<false>(x, pairs, cos, sin);
  }
}
