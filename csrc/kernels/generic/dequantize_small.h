// Two bits (TQ2_0) and four-bit floats (MXFP4, NVFP4).
#pragma once

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
