// Formats whose integers choose values or vectors from a codebook: IQ1_*, IQ2_*, IQ3_*, IQ4_*.
// All products of the first three families are exact, so their order is free.
#pragma once

#include "kernels/generic/iq_grids.h"

// dst = scale * vector, with a minus sign where `signs` has a bit.
template <int kDims>
inline void put_signed(float scale, const int8_t* vector, uint32_t signs, float* dst) {
  for (int i = 0; i < kDims; ++i) dst[i] = scale * static_cast<float>(signs >> i & 1u ? -vector[i] : vector[i]);
}

// Seven bits say eight signs, because the number of minus signs is even.
inline uint32_t even_signs(uint32_t bits) { return bits | static_cast<uint32_t>(__builtin_parity(bits)) << 7; }

inline void dequantize_iq2_xxs(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 66, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    for (int j = 0; j < 8; ++j) {
      const uint8_t* group = src + 2 + 8 * j;
      const uint32_t word = load_u32(group + 4);
      const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
      for (int k = 0; k < 4; ++k)
        put_signed<8>(scale, kIQ2XXS[group[k]], even_signs(word >> (7 * k) & 127u), dst + 32 * j + 8 * k);
    }
  }
}

inline void dequantize_iq2_xs(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 74, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    for (int k = 0; k < 32; ++k) {
      const uint32_t word = load_u16(src + 2 + 2 * k);
      const int s = src[66 + k / 4] >> (k / 2 % 2 * 4) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      put_signed<8>(scale, kIQ2XS[word & 511u], even_signs(word >> 9), dst + 8 * k);
    }
  }
}

inline void dequantize_iq2_s(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 82, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    const uint8_t *qs = src + 2, *signs = src + 34, *qh = src + 66, *scales = src + 74;
    for (int k = 0; k < 32; ++k) {
      const int index = qs[k] | (qh[k / 4] >> (k % 4 * 2) & 3) << 8;
      const int s = scales[k / 4] >> (k / 2 % 2 * 4) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      put_signed<8>(scale, kIQ2S[index], signs[k], dst + 8 * k);
    }
  }
}

inline void dequantize_iq3_xxs(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 98, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    const uint8_t* qs = src + 2;
    for (int j = 0; j < 8; ++j) {
      const uint32_t word = load_u32(src + 66 + 4 * j);
      const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
      for (int k = 0; k < 8; ++k) {
        const uint32_t signs = even_signs(word >> (7 * (k / 2)) & 127u) >> (k % 2 * 4);
        put_signed<4>(scale, kIQ3XXS[qs[8 * j + k]], signs, dst + 32 * j + 4 * k);
      }
    }
  }
}

inline void dequantize_iq3_s(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 110, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    const uint8_t *qs = src + 2, *qh = src + 66, *signs = src + 74, *scales = src + 106;
    for (int k = 0; k < 64; ++k) {
      const int index = qs[k] | (qh[k / 8] >> (k % 8) & 1) << 8;
      const int s = scales[k / 16] >> (k / 8 % 2 * 4) & 15;
      const float scale = d * static_cast<float>(1 + 2 * s);
      put_signed<4>(scale, kIQ3S[index], static_cast<uint32_t>(signs[k / 2] >> (k % 2 * 4)), dst + 4 * k);
    }
  }
}

inline void put_shifted(float scale, const int8_t* vector, bool negative, float* dst) {
  const float shift = negative ? -0.125f : 0.125f;
  for (int i = 0; i < 8; ++i) dst[i] = scale * (static_cast<float>(vector[i]) + shift);
}

inline void dequantize_iq1_s(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 50, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    for (int k = 0; k < 32; ++k) {
      const int word = load_u16(src + 34 + k / 4 * 2);
      const int index = src[2 + k] | (word >> (k % 4 * 3) & 7) << 8;
      const float scale = d * static_cast<float>(2 * (word >> 12 & 7) + 1);
      put_shifted(scale, kIQ1S[index], word >> 15, dst + 8 * k);
    }
  }
}

inline void dequantize_iq1_m(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 56, dst += 256) {
    const uint8_t *qs = src, *qh = src + 32, *scales = src + 48;
    uint32_t bits = 0;  // of d: the upper four bits of each word of scales
    for (int i = 0; i < 4; ++i) bits |= static_cast<uint32_t>(load_u16(scales + 2 * i) >> 12) << (4 * i);
    const float d = f16_to_f32(static_cast<uint16_t>(bits));
    for (int k = 0; k < 32; ++k) {
      const int high = qh[k / 2] >> (k % 2 * 4) & 15;
      const int index = qs[k] | (high & 7) << 8;
      const int s = load_u16(scales + k / 8 * 2) >> (k % 8 / 2 * 3) & 7;
      put_shifted(d * static_cast<float>(2 * s + 1), kIQ1S[index], high >> 3, dst + 8 * k);
    }
  }
}

inline void put_iq4(float scale, const uint8_t* qs, float* dst) {
  for (int i = 0; i < 16; ++i) {
    dst[i] = scale * static_cast<float>(kIq4Codebook[qs[i] & 15]);
    dst[i + 16] = scale * static_cast<float>(kIq4Codebook[qs[i] >> 4]);
  }
}

inline void dequantize_iq4_nl(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 18, dst += 32) put_iq4(f16_to_f32(load_u16(src)), src + 2, dst);
}

inline void dequantize_iq4_xs(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 136, dst += 256) {
    const float d = f16_to_f32(load_u16(src));
    const int scales_h = load_u16(src + 2);
    for (int j = 0; j < 8; ++j) {
      const int ls = (src[4 + j / 2] >> (j % 2 * 4) & 15) | (scales_h >> (2 * j) & 3) << 4;
      put_iq4(d * static_cast<float>(ls - 32), src + 8 + 16 * j, dst + 32 * j);
    }
  }
}
