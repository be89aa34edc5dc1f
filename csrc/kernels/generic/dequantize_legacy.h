// Floats, and the blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. Element i < 16 is the low half of byte i, element
// i + 16 its high half; bit i of the 32-bit word is the fifth bit of element i.
#pragma once

inline void dequantize_f32(const uint8_t* src, float* dst, int64_t n) {
  memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

inline void dequantize_f16(const uint8_t* src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = f16_to_f32(load_u16(src + 2 * i));
}

inline void dequantize_bf16(const uint8_t* src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = bf16_to_f32(load_u16(src + 2 * i));
}

inline void dequantize_q4_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 18, dst += 32) {
    const float d = f16_to_f32(load_u16(src));
    const uint8_t* qs = src + 2;
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * static_cast<float>((qs[i] & 15) - 8);
      dst[i + 16] = d * static_cast<float>((qs[i] >> 4) - 8);
    }
  }
}

inline void dequantize_q4_1(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 20, dst += 32) {
    const float d = f16_to_f32(load_u16(src)), m = f16_to_f32(load_u16(src + 2));
    const uint8_t* qs = src + 4;
    for (int i = 0; i < 16; ++i) {
      dst[i] = d * static_cast<float>(qs[i] & 15) + m;
      dst[i + 16] = d * static_cast<float>(qs[i] >> 4) + m;
    }
  }
}

// The five-bit integers of one block, given the fifth bits and the sixteen bytes of nibbles.
inline void unpack_five_bits(uint32_t high, const uint8_t* qs, int* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = (qs[i] & 15) | static_cast<int>(high >> i & 1u) << 4;
    q[i + 16] = qs[i] >> 4 | static_cast<int>(high >> (i + 16) & 1u) << 4;
  }
}

inline void dequantize_q5_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 22, dst += 32) {
    const float d = f16_to_f32(load_u16(src));
    int q[32];
    unpack_five_bits(load_u32(src + 2), src + 6, q);
    for (int i = 0; i < 32; ++i) dst[i] = d * static_cast<float>(q[i] - 16);
  }
}

inline void dequantize_q5_1(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 24, dst += 32) {
    const float d = f16_to_f32(load_u16(src)), m = f16_to_f32(load_u16(src + 2));
    int q[32];
    unpack_five_bits(load_u32(src + 4), src + 8, q);
    for (int i = 0; i < 32; ++i) dst[i] = d * static_cast<float>(q[i]) + m;
  }
}

inline void dequantize_q8_0(const uint8_t* src, float* dst, int64_t n) {
  for (; n > 0; n -= 32, src += 34, dst += 32) {
    const float d = f16_to_f32(load_u16(src));
    for (int i = 0; i < 32; ++i) dst[i] = d * static_cast<float>(static_cast<int8_t>(src[2 + i]));
  }
}
