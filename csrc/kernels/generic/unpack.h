// Formats that stay GGUF rows: too many to pack each in its own way, and too involved to unpack for 16 rows at once.
//
// Such a format is a struct W with W::unpack(src, q, scales), which writes the weights of one block of one row to q,
// each kZero above itself, and calls scales(j, ...) with the members of its form for every 32 of them.

inline uint64_t load_u64(const void* p) {
  uint64_t x;
  memcpy(&x, p, sizeof x);
  return x;
}
inline void store_u64(uint8_t* p, uint64_t x) { memcpy(p, &x, sizeof x); }

constexpr uint64_t kOnes = 0x0101010101010101;

// A one in byte i for bit i: each byte gets its bit, which the addition lifts to the top.
inline uint64_t spread_bits(uint32_t bits) {
  const uint64_t own = (bits * kOnes) & 0x8040201008040201;
  return ((own + 0x00406070787c7e7f) >> 7) & kOnes;
}

// Every product is exact, so this gives the bits of src/llamaq/formats.
template <class W>
inline void dequantize_unpacked(const uint8_t* src, float* dst, int64_t n) {
  constexpr int kBlock = W::kLayout.block;
  uint8_t q[kBlock];
  float scale[kBlock / 16];
  struct Scales {
    float* scale;
    void operator()(int j, float d) const { scale[2 * j] = scale[2 * j + 1] = d; }
    void operator()(int j, float d, float half0, float half1) const {
      scale[2 * j] = d * half0;
      scale[2 * j + 1] = d * half1;
    }
  };
  for (; n > 0; n -= kBlock, src += W::kLayout.block_bytes, dst += kBlock) {
    W::unpack(src, q, Scales{scale});
    for (int i = 0; i < kBlock; ++i) dst[i] = scale[i / 16] * static_cast<float>(q[i] - W::kZero);
  }
}
