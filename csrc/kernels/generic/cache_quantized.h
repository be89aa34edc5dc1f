// Pages of a Q8_0 or Q4_0 cache: each token's head in blocks of 32 dimensions, quantized as GGUF's reference does it.
// A page holds for each block of dimensions 32 binary16 scales, one a token, then the integers: keys with lanes of
// tokens, values with lanes of dimensions. Nibbles pair dimensions i and i + 16. An integer times its scale is exact.

inline uint16_t half_of(float x) { return f32_to_f16(x); }

// The greatest magnitude of 32 floats; 0 where a scale would be too small to matter.
inline float block_amax(const float* x) {
  const I32 magnitude = splat_i32(0x7fffffff);
  const int32_t word = max_lane(max(bits(load(x)) & magnitude, bits(load(x + 16)) & magnitude));
  float amax;
  memcpy(&amax, &word, 4);
  return amax < 0x1p-100f ? 0 : amax;  // a NaN stays a NaN
}

inline bool is_finite(float x) { return x - x == 0; }

struct BlockQ8_0 {
  static constexpr int kBytes = 32;  // bytes of a token's integers
  // q[32] and the scale, which is NaN for values that are not finite.
  static uint16_t quantize(const float* x, uint8_t* q) {
    const float amax = block_amax(x);
    if (amax == 0 || !is_finite(amax)) {
      memset(q, 0, 32);
      return amax == 0 ? 0 : 0x7e00;
    }
    const float d = amax / 127.0f;
    const F32 inverse = splat(1.0f / d), zero = splat(0);
    for (int i = 0; i < 32; i += 16) {
      const F32 v = load(x + i) * inverse, a = from_bits(bits(v) & splat_i32(0x7fffffff));
      F32 whole = to_f32(round_to_i32(a));
      whole = whole + where_less(a - whole, splat(0.5f), zero, splat(1));  // halves go away from zero
      store_i8(reinterpret_cast<int8_t*>(q + i), round_to_i32(where_less(v, zero, zero - whole, whole)));
    }
    return half_of(d);
  }
  static F32 key(const uint8_t* q, int dim, int token) { return to_f32(load_i8x16(q + dim * kPageTokens + token)); }
  static F32 value(const uint8_t* q, int token, int dim) { return to_f32(load_i8x16(q + token * 32 + dim)); }
};

struct BlockQ4_0 {
  static constexpr int kBytes = 16;
  static uint16_t quantize(const float* x, uint8_t* q) {
    const float amax = block_amax(x);
    if (amax == 0 || !is_finite(amax)) {
      memset(q, 0x88, 16);
      return amax == 0 ? 0 : 0x7e00;
    }
    int first = 0;
    while (x[first] != amax && x[first] != -amax) ++first;
    const float d = x[first] / -8.0f;
    const F32 inverse = splat(1.0f / d), most = splat(15);
    I32 nibble[2];
    for (int half = 0; half < 2; ++half) {
      const F32 v = load(x + 16 * half) * inverse + splat(8.5f);
      F32 whole = to_f32(round_to_i32(v));
      whole = whole - where_greater(whole, v, splat(1), splat(0));
      nibble[half] = round_to_i32(where_greater(whole, most, most, whole));
    }
    const I32 byte = nibble[0] | shift_left(nibble[1], 4);
    store_i8(reinterpret_cast<int8_t*>(q), shift_right_signed(shift_left(byte, 24), 24));
    return half_of(d);
  }
  static F32 part(const uint8_t* p, bool high) {
    const I32 pair = load_u8x16(p);
    return to_f32((high ? shift_right(pair, 4) : pair & splat_i32(15)) - splat_i32(8));
  }
  static F32 key(const uint8_t* q, int dim, int token) { return part(q + dim % 16 * kPageTokens + token, dim >= 16); }
  static F32 value(const uint8_t* q, int token, int dim) { return part(q + token * 16, dim >= 16); }
};

template <class B>
struct PageQuantized {
  static constexpr int kScales = 2 * kPageTokens, kBlock = kScales + kPageTokens * B::kBytes;  // bytes
  static const float* keys(const uint8_t* p, int dim, float* out) {
    for (int block = 0; block < dim; block += 32, p += kBlock) {
      const F32 d[2] = {load_f16(p), load_f16(p + 32)};
      for (int j = 0; j < 32; ++j)
        for (int half = 0; half < 2; ++half)
          store(out + (block + j) * kPageTokens + 16 * half, B::key(p + kScales, j, 16 * half) * d[half]);
    }
    return out;
  }
  static const float* values(const uint8_t* p, int dim, float* out) {
    for (int block = 0; block < dim; block += 32, p += kBlock) {
      float d[kPageTokens];
      store(d, load_f16(p)), store(d + 16, load_f16(p + 32));
      for (int token = 0; token < kPageTokens; ++token)
        for (int j = 0; j < 32; j += 16)
          store(out + token * dim + block + j, B::value(p + kScales, token, j) * splat(d[token]));
    }
    return out;
  }
  static void put_key(uint8_t* p, int slot, const float* k, int dim) {
    for (int block = 0; block < dim; block += 32, p += kBlock) {
      uint8_t q[B::kBytes];
      store_u16(p + 2 * slot, B::quantize(k + block, q));
      for (int j = 0; j < B::kBytes; ++j) p[kScales + j * kPageTokens + slot] = q[j];
    }
  }
  static void put_value(uint8_t* p, int slot, const float* v, int dim) {
    for (int block = 0; block < dim; block += 32, p += kBlock)
      store_u16(p + 2 * slot, B::quantize(v + block, p + kScales + slot * B::kBytes));
  }
};
