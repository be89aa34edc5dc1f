// Formats whose four bits choose a value from a codebook: IQ4_NL and IQ4_XS.
#pragma once

alignas(16) static const int8_t kIq4Codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};

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
