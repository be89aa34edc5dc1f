// One and two bits (Q1_0, Q2_0, TQ1_0, TQ2_0) and four-bit floats (MXFP4, NVFP4).
#pragma once

inline void dequantize_q1_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 128, src += 18, dst += 128) {
    const float d = f16_to_f32(load_u16(src));
    for (int i = 0; i < 128; ++i) dst[i] = d * static_cast<float>(2 * (src[2 + i / 8] >> i % 8 & 1) - 1);
  }
}

inline void dequantize_q2_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 64, src += 18, dst += 64) {
    const float d = f16_to_f32(load_u16(src));
    for (int i = 0; i < 64; ++i) dst[i] = d * static_cast<float>((src[2 + i / 4] >> i % 4 * 2 & 3) - 1);
  }
}

// A byte is the fraction 0.ttttt in base 3, in units of 1/256, rounded up: multiplied by 3^k modulo 256 it is what
// lies behind digit k - 1, and three times that over 256 is digit k.
inline float* ternary_digits(const uint8_t* src, int bytes, int digits, float d, float* dst) {
  for (int k = 0, power = 1; k < digits; ++k, power *= 3)
    for (int i = 0; i < bytes; ++i) *dst++ = d * static_cast<float>(((src[i] * power & 255) * 3 >> 8) - 1);
  return dst;
}

inline void dequantize_tq1_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 54) {
    const float d = f16_to_f32(load_u16(src + 52));
    dst = ternary_digits(src, 32, 5, d, dst);
    dst = ternary_digits(src + 32, 16, 5, d, dst);
    dst = ternary_digits(src + 48, 4, 4, d, dst);
  }
}

inline void dequantize_tq2_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 66, dst += 256) {
    const float d = f16_to_f32(load_u16(src + 64));
    for (int j = 0; j < 8; ++j)
      for (int i = 0; i < 32; ++i)
        dst[32 * j + i] = d * static_cast<float>((src[32 * (j / 4) + i] >> (j % 4 * 2) & 3) - 1);
  }
}

// E2M1, doubled to be integers; the scales are halved.
static const int8_t kFp4Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline void dequantize_mxfp4(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 17, dst += 32) {
    const float d = half_of_e8m0(src[0]);
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * static_cast<float>(kFp4Levels[src[1 + i] & 15]);
      dst[i + 16] = d * static_cast<float>(kFp4Levels[src[1 + i] >> 4]);
    }
  }
}

inline void dequantize_nvfp4(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 64, src += 36, dst += 64) {
    for (int j = 0; j < 4; ++j) {
      const float d = half_of_ue4m3(src[j]);
      const uint8_t* qs = src + 4 + 8 * j;
      for (int i = 0; i < 8; ++i) {
        dst[16 * j + i] = d * static_cast<float>(kFp4Levels[qs[i] & 15]);
        dst[16 * j + 8 + i] = d * static_cast<float>(kFp4Levels[qs[i] >> 4]);
      }
    }
  }
}
