// Super-blocks of 256 with integer scales: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K. Fields of the same bits in 32 neighbouring
// bytes are neighbouring elements: j counts sub-blocks of 16 (or 32) elements in that order.
#pragma once

inline void dequantize_q2_k(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 84, dst += 256) {
    const uint8_t *scales = src, *qs = src + 16;
    const float d = f16_to_f32(load_u16(src + 80)), dmin = f16_to_f32(load_u16(src + 82));
    for (int j = 0; j < 16; ++j) {
      const float scale = d * static_cast<float>(scales[j] & 15);
      const float minimum = dmin * static_cast<float>(scales[j] >> 4);
      const uint8_t* bytes = qs + 32 * (j / 8) + 16 * (j % 2);
      const int shift = j % 8 / 2 * 2;
      for (int i = 0; i < 16; ++i) dst[16 * j + i] = scale * static_cast<float>(bytes[i] >> shift & 3) - minimum;
    }
  }
}

inline void dequantize_q3_k(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 110, dst += 256) {
    const uint8_t *hmask = src, *qs = src + 32, *scales = src + 96;
    const float d = f16_to_f32(load_u16(src + 108));
    for (int j = 0; j < 16; ++j) {
      const int low = scales[j % 8] >> (j / 8 * 4) & 15, high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const uint8_t *bytes = qs + 32 * (j / 8) + 16 * (j % 2), *bits = hmask + 16 * (j % 2);
      const int shift = j % 8 / 2 * 2, bit = j / 2;
      for (int i = 0; i < 16; ++i) {
        const int q = (bytes[i] >> shift & 3) | (bits[i] >> bit & 1) << 2;
        dst[16 * j + i] = scale * static_cast<float>(q - 4);
      }
    }
  }
}

// Scale and minimum, of six bits each, of sub-block j among the twelve bytes of Q4_K and Q5_K.
inline void unpack_six_bits(const uint8_t* packed, int j, int* sc, int* mn) {
  if (j < 4) {
    *sc = packed[j] & 63;
    *mn = packed[j + 4] & 63;
  } else {
    *sc = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
    *mn = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
  }
}

inline void dequantize_q4_k(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 144, dst += 256) {
    const float d = f16_to_f32(load_u16(src)), dmin = f16_to_f32(load_u16(src + 2));
    for (int j = 0; j < 8; ++j) {
      int sc, mn;
      unpack_six_bits(src + 4, j, &sc, &mn);
      const float scale = d * static_cast<float>(sc), minimum = dmin * static_cast<float>(mn);
      const uint8_t* bytes = src + 16 + 32 * (j / 2);
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) dst[32 * j + i] = scale * static_cast<float>(bytes[i] >> shift & 15) - minimum;
    }
  }
}

inline void dequantize_q5_k(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 176, dst += 256) {
    const float d = f16_to_f32(load_u16(src)), dmin = f16_to_f32(load_u16(src + 2));
    const uint8_t* qh = src + 16;
    for (int j = 0; j < 8; ++j) {
      int sc, mn;
      unpack_six_bits(src + 4, j, &sc, &mn);
      const float scale = d * static_cast<float>(sc), minimum = dmin * static_cast<float>(mn);
      const uint8_t* bytes = src + 48 + 32 * (j / 2);
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        const int q = (bytes[i] >> shift & 15) | (qh[i] >> j & 1) << 4;
        dst[32 * j + i] = scale * static_cast<float>(q) - minimum;
      }
    }
  }
}

inline void dequantize_q6_k(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 256, src += 210, dst += 256) {
    const float d = f16_to_f32(load_u16(src + 208));
    for (int j = 0; j < 16; ++j) {
      const int half = j / 8, quarter = j % 8 / 2, first = 16 * (j % 2);
      const uint8_t* low = src + 64 * half + 32 * (quarter % 2) + first;
      const uint8_t* high = src + 128 + 32 * half + first;
      const float scale = d * static_cast<float>(static_cast<int8_t>(src[192 + j]));
      for (int i = 0; i < 16; ++i) {
        const int q = (low[i] >> (quarter / 2 * 4) & 15) | (high[i] >> (2 * quarter) & 3) << 4;
        dst[16 * j + i] = scale * static_cast<float>(q - 32);
      }
    }
  }
}
