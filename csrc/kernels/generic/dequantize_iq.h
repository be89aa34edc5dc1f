// IQ1, IQ2 and IQ3: a vector of eight small integers is one 64-bit word of a codebook, and signs are applied to its
// bytes at once. Factors of two halves are odd integers (2s + 1) under the scale d / 8.
//
// Such a format is a struct W with W::unpack(src, q, scales), which writes the 256 weights of a block to q, each kZero
// above itself, and calls scales(j, ...) with the scale or the scale and two factors for every 32 of them.
#pragma once

#include "kernels/generic/iq_grids.h"
#include "kernels/generic/zero_point.h"

namespace codebook {

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

// Seven bits say eight signs, because the number of minus signs is even.
inline uint32_t even_signs(uint32_t bits) { return bits | static_cast<uint32_t>(__builtin_parity(bits)) << 7; }

// kZero plus each byte of `levels`, or minus it where `signs` has a bit. Bytes stay below kMask, so that nothing is
// carried: kMask - level + kZero - kMask.
template <int kZero>
inline uint64_t apply_signs(uint64_t levels, uint32_t signs) {
  constexpr uint64_t kMask = kZero == 16 ? 31 : 127;
  const uint64_t mask = spread_bits(signs) * kMask;
  return (levels ^ mask) + kOnes * kZero - mask;
}

inline uint64_t two_vectors(const int8_t (*grid)[4], int first, int second) {
  uint32_t a, b;
  memcpy(&a, grid[first], sizeof a);
  memcpy(&b, grid[second], sizeof b);
  return a | static_cast<uint64_t>(b) << 32;
}

inline float odd(int s) { return static_cast<float>(2 * s + 1); }

struct IQ2_XXS {
  static constexpr int kBytes = 66, kZero = kWideZero;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src)) * 0.125f;
    for (int j = 0; j < 8; ++j) {
      const uint8_t* group = src + 2 + 8 * j;
      const uint32_t word = load_u32(group + 4);
      for (int k = 0; k < 4; ++k, q += 8)
        store_u64(q, apply_signs<kZero>(load_u64(kIQ2XXS[group[k]]), even_signs(word >> (7 * k) & 127u)));
      scales(j, d * odd(word >> 28));
    }
  }
};

// A byte has the factors of two halves.
template <class Scales>
inline void scale_halves(const Scales& scales, int j, float d, int byte) {
  scales(j, d, odd(byte & 15), odd(byte >> 4));
}

struct IQ2_XS {
  static constexpr int kBytes = 74, kZero = kWideZero;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src)) * 0.125f;
    for (int k = 0; k < 32; ++k) {
      const uint32_t word = load_u16(src + 2 + 2 * k);
      store_u64(q + 8 * k, apply_signs<kZero>(load_u64(kIQ2XS[word & 511u]), even_signs(word >> 9)));
    }
    for (int j = 0; j < 8; ++j) scale_halves(scales, j, d, src[66 + j]);
  }
};

struct IQ2_S {
  static constexpr int kBytes = 82, kZero = kWideZero;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src)) * 0.125f;
    const uint8_t *qs = src + 2, *signs = src + 34, *qh = src + 66;
    for (int j = 0; j < 8; ++j) {
      for (int k = 4 * j; k < 4 * j + 4; ++k) {
        const int index = qs[k] | (qh[j] >> (k % 4 * 2) & 3) << 8;
        store_u64(q + 8 * k, apply_signs<kZero>(load_u64(kIQ2S[index]), signs[k]));
      }
      scale_halves(scales, j, d, src[74 + j]);
    }
  }
};

struct IQ3_XXS {
  static constexpr int kBytes = 98, kZero = kWideZero;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src)) * 0.25f;
    const uint8_t* qs = src + 2;
    for (int j = 0; j < 8; ++j) {
      const uint32_t word = load_u32(src + 66 + 4 * j);
      for (int k = 0; k < 4; ++k, q += 8, qs += 2)
        store_u64(q, apply_signs<kZero>(two_vectors(kIQ3XXS, qs[0], qs[1]), even_signs(word >> (7 * k) & 127u)));
      scales(j, d * odd(word >> 28));
    }
  }
};

struct IQ3_S {
  static constexpr int kBytes = 110, kZero = 16;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src));
    const uint8_t *qs = src + 2, *qh = src + 66, *signs = src + 74;
    for (int j = 0; j < 8; ++j, qs += 8, signs += 4) {
      for (int k = 0; k < 4; ++k, q += 8) {
        const int high = qh[j] >> (2 * k);
        const uint64_t levels = two_vectors(kIQ3S, qs[2 * k] | (high & 1) << 8, qs[2 * k + 1] | (high & 2) << 7);
        store_u64(q, apply_signs<kZero>(levels, signs[k]));
      }
      scales(j, d * odd(src[106 + j / 2] >> (j % 2 * 4) & 15));
    }
  }
};

// 16 plus 8 * level, plus or minus 1; levels -1, 0, 1 have the last bits 11, 00, 01.
inline uint64_t shifted_levels(const int8_t* vector, bool negative) {
  const uint64_t eights = (((load_u64(vector) << 3) & kOnes * 24) + kOnes * 16) & kOnes * 24;
  return negative ? eights - kOnes : eights + kOnes;
}

struct IQ1_S {
  static constexpr int kBytes = 50, kZero = 16;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const float d = f16_to_f32(load_u16(src)) * 0.125f;
    const uint8_t* qs = src + 2;
    for (int j = 0; j < 8; ++j, qs += 4) {
      const int word = load_u16(src + 34 + 2 * j);
      for (int k = 0; k < 4; ++k, q += 8)
        store_u64(q, shifted_levels(kIQ1S[qs[k] | (word >> (3 * k) & 7) << 8], word >> 15));
      scales(j, d * odd(word >> 12 & 7));
    }
  }
};

struct IQ1_M {
  static constexpr int kBytes = 56, kZero = 16;
  template <class Scales>
  static void unpack(const uint8_t* src, uint8_t* q, const Scales& scales) {
    const uint8_t *qs = src, *qh = src + 32;
    const uint64_t words = load_u64(src + 48);  // four words of 16 bits, whose upper four bits are d's
    const uint64_t bits = (words >> 12 & 0xf) | (words >> 24 & 0xf0) | (words >> 36 & 0xf00) | (words >> 48 & 0xf000);
    const float d = f16_to_f32(static_cast<uint16_t>(bits)) * 0.125f;
    for (int j = 0; j < 8; ++j, qs += 4, qh += 2) {
      for (int k = 0; k < 4; ++k, q += 8) {
        const int high = qh[k / 2] >> (k % 2 * 4);
        store_u64(q, shifted_levels(kIQ1S[qs[k] | (high & 7) << 8], high & 8));
      }
      const int pair = static_cast<int>(words >> (16 * (j / 2) + 6 * (j % 2)));
      scales(j, d, odd(pair & 7), odd(pair >> 3 & 7));
    }
  }
};

// Every product is exact, so this gives the bits of src/llamaq/formats.
template <class W>
inline void dequantize(const uint8_t* src, float* dst, int64_t n) {
  uint8_t q[256];
  float scale[16];
  struct Scales {
    float* scale;
    void operator()(int j, float d) const { scale[2 * j] = scale[2 * j + 1] = d; }
    void operator()(int j, float d, float half0, float half1) const {
      scale[2 * j] = d * half0;
      scale[2 * j + 1] = d * half1;
    }
  };
  for (; n > 0; n -= 256, src += W::kBytes, dst += 256) {
    W::unpack(src, q, Scales{scale});
    for (int i = 0; i < 256; ++i) dst[i] = scale[i / 16] * static_cast<float>(q[i] - W::kZero);
  }
}

}  // namespace codebook
