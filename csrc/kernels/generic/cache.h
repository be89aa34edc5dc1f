// Pages of the key-value cache: 32 tokens of one KV head, first K as [head_dim][32 tokens], so that lanes are tokens,
// then V as [32 tokens][value_pad], so that lanes are dimensions. Attention reads whole pages as floats of that shape.

inline int pad16(int n) { return (n + 15) / 16 * 16; }

struct PageF16 {
  static const float* unpack(const uint8_t* p, int n, float* out) {
    for (int i = 0; i < n; i += 16) store(out + i, load_f16(p + 2 * i));
    return out;
  }
  static const float* keys(const uint8_t* p, int dim, float* out) { return unpack(p, dim * kPageTokens, out); }
  static const float* values(const uint8_t* p, int pad, float* out) { return unpack(p, pad * kPageTokens, out); }
  static void put_key(uint8_t* p, int slot, const float* k, int dim) {
    uint8_t halves[32];
    for (int j = 0; j < dim; j += 16) {
      store_f16(halves, load_first(k + j, dim - j < 16 ? dim - j : 16));
      for (int i = 0; i < 16 && j + i < dim; ++i) memcpy(p + ((j + i) * kPageTokens + slot) * 2, halves + 2 * i, 2);
    }
  }
  static void put_value(uint8_t* p, int slot, const float* v, int dim) {
    for (int j = 0; j < dim; j += 16)
      store_f16(p + (slot * pad16(dim) + j) * 2, load_first(v + j, dim - j < 16 ? dim - j : 16));
  }
};

struct PageF32 {
  static const float* keys(const uint8_t* p, int, float*) { return reinterpret_cast<const float*>(p); }
  static const float* values(const uint8_t* p, int, float*) { return reinterpret_cast<const float*>(p); }
  static void put_key(uint8_t* p, int slot, const float* k, int dim) {
    for (int j = 0; j < dim; ++j) memcpy(p + (j * kPageTokens + slot) * 4, k + j, 4);
  }
  static void put_value(uint8_t* p, int slot, const float* v, int dim) {
    float* row = reinterpret_cast<float*>(p) + slot * pad16(dim);
    for (int j = 0; j < dim; j += 16) store(row + j, load_first(v + j, dim - j < 16 ? dim - j : 16));
  }
};

#include "kernels/generic/cache_quantized.h"

// A type of cache says how its pages are read and written.
struct PageFormat {
  int block, block_bytes;  // elements share a block of bytes
  const float* (*keys)(const uint8_t* page, int dim, float* out);
  const float* (*values)(const uint8_t* values, int pad, float* out);
  void (*put_key)(uint8_t* page, int slot, const float* k, int dim);
  void (*put_value)(uint8_t* values, int slot, const float* v, int dim);

  int bytes(int dim) const { return dim * kPageTokens / block * block_bytes; }
};

template <class T>
constexpr PageFormat page_format_of(int block, int block_bytes) {
  return {block, block_bytes, T::keys, T::values, T::put_key, T::put_value};
}

inline PageFormat page_format(Format type) {
  switch (type) {
    case Format::F32: return page_format_of<PageF32>(1, 4);
    case Format::Q8_0: return page_format_of<PageQuantized<BlockQ8_0>>(kBlock_Q8_0, kBytes_Q8_0);
    case Format::Q4_0: return page_format_of<PageQuantized<BlockQ4_0>>(kBlock_Q4_0, kBytes_Q4_0);
    default: return page_format_of<PageF16>(1, 2);
  }
}

// Values that are the first `dim` elements of keys, as values lie: [32 tokens][pad], zeros behind them.
inline const float* values_of_keys(const PageFormat& format, const uint8_t* page, int dim, float* out) {
  const int pad = pad16(dim);
  float some[32 * kPageTokens];  // a block of dimensions
  for (int block = 0; block < pad; block += 32, page += format.bytes(32)) {
    const int count = dim - block < 32 ? dim - block : 32, width = pad - block < 32 ? pad - block : 32;
    const float* keys = format.keys(page, count, some);
    for (int token = 0; token < kPageTokens; ++token)
      for (int j = 0; j < width; ++j) out[token * pad + block + j] = j < count ? keys[j * kPageTokens + token] : 0;
  }
  return out;
}

inline uint8_t* page_of(const CacheView& c, int token) { return c.base + c.pages[token / kPageTokens] * c.page_stride; }

inline void store_kv(const StoreArgs& a) {
  const CacheView& c = a.cache;
  const PageFormat format = page_format(c.type);
  for (int i = 0; i < a.rows; ++i) {
    uint8_t* page = page_of(c, a.positions[i]);
    const int slot = a.positions[i] % kPageTokens;
    format.put_key(page, slot, a.k + i * a.k_stride, c.head_dim);
    if (!c.value_of_key) format.put_value(page + format.bytes(c.head_dim), slot, a.v + i * a.v_stride, c.value_dim);
  }
}
