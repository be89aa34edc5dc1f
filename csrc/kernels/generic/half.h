// Little-endian loads and the short float formats, exact for every bit pattern (a NaN's payload aside).
// Written with selections instead of branches, so that loops over them are vectorized.
#pragma once

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t x;
  memcpy(&x, p, sizeof x);
  return x;
}

inline uint32_t load_u32(const uint8_t* p) {
  uint32_t x;
  memcpy(&x, p, sizeof x);
  return x;
}

inline void store_u16(uint8_t* p, uint16_t x) { memcpy(p, &x, sizeof x); }

inline float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float f16_to_f32(uint16_t h) {
  const uint32_t magnitude = (h & 0x7fffu) << 13;  // the bits are in place, but with binary16's exponent bias of 15
  const uint32_t rebiased = magnitude + (112u << 23);
  // A subnormal is a fixed-point fraction: with the exponent of 2^-14 in front it is 2^-14 too large.
  const uint32_t subnormal = bits_of_float(float_of_bits(magnitude + (113u << 23)) - 0x1p-14f);
  const uint32_t finite = magnitude < (1u << 23) ? subnormal : rebiased;
  const uint32_t any = magnitude >= (31u << 23) ? rebiased + (112u << 23) : finite;
  return float_of_bits(any | static_cast<uint32_t>(h & 0x8000u) << 16);
}

// It rounds to nearest, ties to even; numbers from 65520 on are infinite.
inline uint16_t f32_to_f16(float x) {
  const uint32_t bits = bits_of_float(x), magnitude = bits & 0x7fffffffu;
  // Below 2^-14, one half in front makes the addition round to multiples of 2^-24, the step of subnormals.
  const uint32_t subnormal = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t odd = (magnitude >> 13) & 1u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + odd) >> 13;  // a carry may reach infinity
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t any = magnitude >= 0x47800000u ? special : finite;
  return static_cast<uint16_t>(any | (bits >> 16 & 0x8000u));
}

inline float bf16_to_f32(uint16_t h) { return float_of_bits(static_cast<uint32_t>(h) << 16); }

// Half of E8M0: 2^(e - 128); the two least values are subnormal.
inline float half_of_e8m0(uint8_t e) { return float_of_bits(e < 2 ? 0x200000u << e : (e - 1u) << 23); }

// Half of unsigned E4M3 with bias 7. Its NaN 0x7f counts as 0 and the top bit is ignored, as in ggml.
inline float half_of_ue4m3(uint8_t x) {
  const uint32_t exponent = x >> 3 & 15u, mantissa = x & 7u;
  if (x == 0x7f) return 0;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  return float_of_bits((exponent + 119u) << 23 | mantissa << 20);
}
