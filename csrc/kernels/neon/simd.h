// Sixteen lanes as four NEON registers (baseline of every 64-bit ARM CPU). dot4_quad comes from the level's dot.h.
// clang-format off: one operation a line
constexpr int kAccumulators = 6;  // F32 sums that the registers hold beside a product's operands

struct F32 { float32x4_t v[4]; };
struct I32 { int32x4_t v[4]; };
struct U8 { uint8x16_t v[4]; };  // four bytes for each of 16 lanes

#define QUADS for (int i = 0; i < 4; ++i)

inline F32 splat(float x) { F32 r; QUADS r.v[i] = vdupq_n_f32(x); return r; }
inline F32 load(const float* p) { F32 r; QUADS r.v[i] = vld1q_f32(p + 4 * i); return r; }
inline void store(float* p, F32 a) { QUADS vst1q_f32(p + 4 * i, a.v[i]); }
inline void stream(float* p, F32 a) { store(p, a); }
inline void stream_end() {}
inline uint16x4_t load_half(const uint8_t* p) { return vreinterpret_u16_u8(vld1_u8(p)); }
inline F32 load_f16(const uint8_t* p) {
  F32 r;
  QUADS r.v[i] = vcvt_f32_f16(vreinterpret_f16_u16(load_half(p + 8 * i)));
  return r;
}
inline F32 load_bf16(const uint8_t* p) {
  F32 r;
  QUADS r.v[i] = vreinterpretq_f32_u32(vshll_n_u16(load_half(p + 8 * i), 16));
  return r;
}
inline void store_f16(uint8_t* p, F32 a) {
  QUADS vst1_u8(p + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(a.v[i])));
}

inline F32 operator+(F32 a, F32 b) { QUADS a.v[i] = vaddq_f32(a.v[i], b.v[i]); return a; }
inline F32 operator-(F32 a, F32 b) { QUADS a.v[i] = vsubq_f32(a.v[i], b.v[i]); return a; }
inline F32 operator*(F32 a, F32 b) { QUADS a.v[i] = vmulq_f32(a.v[i], b.v[i]); return a; }
inline F32 operator/(F32 a, F32 b) { QUADS a.v[i] = vdivq_f32(a.v[i], b.v[i]); return a; }
inline F32 fma(F32 a, F32 b, F32 c) { QUADS a.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]); return a; }
inline F32 max(F32 a, F32 b) { QUADS a.v[i] = vmaxq_f32(a.v[i], b.v[i]); return a; }
inline F32 min(F32 a, F32 b) { QUADS a.v[i] = vminq_f32(a.v[i], b.v[i]); return a; }
// x < limit ? a : b, and x > limit ? a : b (false where x is NaN)
inline F32 where_less(F32 x, F32 limit, F32 a, F32 b) {
  QUADS b.v[i] = vbslq_f32(vcltq_f32(x.v[i], limit.v[i]), a.v[i], b.v[i]);
  return b;
}
inline F32 where_greater(F32 x, F32 limit, F32 a, F32 b) { return where_less(limit, x, a, b); }

inline I32 splat_i32(int32_t x) { I32 r; QUADS r.v[i] = vdupq_n_s32(x); return r; }
inline I32 load_i32(const uint8_t* p) { I32 r; QUADS r.v[i] = vreinterpretq_s32_u8(vld1q_u8(p + 16 * i)); return r; }
inline I32 load_u16x16(const uint8_t* p) {
  I32 r;
  QUADS r.v[i] = vreinterpretq_s32_u32(vmovl_u16(load_half(p + 8 * i)));
  return r;
}
inline I32 load_i8x16(const uint8_t* p) {
  const int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(p));
  const int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_high_s8(b);
  return {{vmovl_s16(vget_low_s16(lo)), vmovl_high_s16(lo), vmovl_s16(vget_low_s16(hi)), vmovl_high_s16(hi)}};
}
inline I32 load_u8x16(const uint8_t* p) {
  I32 r = load_i8x16(p);
  QUADS r.v[i] = vandq_s32(r.v[i], vdupq_n_s32(255));
  return r;
}
inline I32 operator+(I32 a, I32 b) { QUADS a.v[i] = vaddq_s32(a.v[i], b.v[i]); return a; }
inline I32 operator-(I32 a, I32 b) { QUADS a.v[i] = vsubq_s32(a.v[i], b.v[i]); return a; }
inline I32 operator*(I32 a, I32 b) { QUADS a.v[i] = vmulq_s32(a.v[i], b.v[i]); return a; }
inline I32 operator&(I32 a, I32 b) { QUADS a.v[i] = vandq_s32(a.v[i], b.v[i]); return a; }
inline I32 operator|(I32 a, I32 b) { QUADS a.v[i] = vorrq_s32(a.v[i], b.v[i]); return a; }
inline I32 shift_left(I32 a, int n) { QUADS a.v[i] = vshlq_s32(a.v[i], vdupq_n_s32(n)); return a; }
inline I32 shift_right(I32 a, int n) {
  QUADS a.v[i] = vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.v[i]), vdupq_n_s32(-n)));
  return a;
}
inline I32 shift_right_signed(I32 a, int n) { QUADS a.v[i] = vshlq_s32(a.v[i], vdupq_n_s32(-n)); return a; }
// byte 0 to 3 of each lane, as 0 .. 255
inline I32 byte_of(I32 a, int byte) { return shift_right(a, 8 * byte) & splat_i32(255); }
inline I32 operator^(I32 a, I32 b) { QUADS a.v[i] = veorq_s32(a.v[i], b.v[i]); return a; }
inline I32 gather(const uint32_t* table, I32 index) {
  int32_t lanes[16];
  QUADS vst1q_s32(lanes + 4 * i, index.v[i]);
  for (int32_t& lane : lanes) lane = static_cast<int32_t>(table[lane]);
  QUADS index.v[i] = vld1q_s32(lanes + 4 * i);
  return index;
}
inline U8 as_bytes(I32 a) { U8 r; QUADS r.v[i] = vreinterpretq_u8_s32(a.v[i]); return r; }
inline I32 max(I32 a, I32 b) { QUADS a.v[i] = vmaxq_s32(a.v[i], b.v[i]); return a; }
inline F32 to_f32(I32 a) { F32 r; QUADS r.v[i] = vcvtq_f32_s32(a.v[i]); return r; }
inline I32 bits(F32 a) { I32 r; QUADS r.v[i] = vreinterpretq_s32_f32(a.v[i]); return r; }
inline F32 from_bits(I32 a) { F32 r; QUADS r.v[i] = vreinterpretq_f32_s32(a.v[i]); return r; }
// It rounds to the nearest integer, ties to even, for |x| < 2^22.
inline I32 round_to_i32(F32 a) { I32 r; QUADS r.v[i] = vcvtnq_s32_f32(a.v[i]); return r; }
inline void store_i8(int8_t* p, I32 a) {
  const int16x8_t lo = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
  const int16x8_t hi = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

inline U8 load_u8(const uint8_t* p) { U8 r; QUADS r.v[i] = vld1q_u8(p + 16 * i); return r; }
inline void store_u8(uint8_t* p, U8 a) { QUADS vst1q_u8(p + 16 * i, a.v[i]); }
inline U8 splat_u8(uint8_t x) { U8 r; QUADS r.v[i] = vdupq_n_u8(x); return r; }
inline U8 operator&(U8 a, U8 b) { QUADS a.v[i] = vandq_u8(a.v[i], b.v[i]); return a; }
inline U8 operator|(U8 a, U8 b) { QUADS a.v[i] = vorrq_u8(a.v[i], b.v[i]); return a; }
inline U8 operator+(U8 a, U8 b) { QUADS a.v[i] = vaddq_u8(a.v[i], b.v[i]); return a; }
// 3 * byte >> 8; a comparison that holds gives 255, which is -1
inline U8 carry_of_three(U8 a) {
  const uint8x16_t first = vdupq_n_u8(86), second = vdupq_n_u8(171), zero = vdupq_n_u8(0);
  QUADS a.v[i] = vsubq_u8(vsubq_u8(zero, vcgeq_u8(a.v[i], first)), vcgeq_u8(a.v[i], second));
  return a;
}
// (byte >> shift) & mask; the mask has at most 8 - shift bits
inline U8 bit_field(U8 a, int shift, uint8_t mask) {
  QUADS a.v[i] = vandq_u8(vshlq_u8(a.v[i], vdupq_n_s8(static_cast<int8_t>(-shift))), vdupq_n_u8(mask));
  return a;
}
// the bits of `mask`, taken from `from` bits up and put `to` bits up; they must fit a byte in both places
inline U8 move_field(U8 a, int from, int to, int mask) {
  const int8x16_t shift = vdupq_n_s8(static_cast<int8_t>(to - from));
  QUADS a.v[i] = vandq_u8(vshlq_u8(a.v[i], shift), vdupq_n_u8(static_cast<uint8_t>(mask << to)));
  return a;
}
inline U8 lookup(const int8_t* table16, U8 index) {
  const uint8x16_t table = vreinterpretq_u8_s8(vld1q_s8(table16));
  QUADS index.v[i] = vqtbl1q_u8(table, index.v[i]);
  return index;
}
// table[index] for indices 0 .. 31
inline F32 lookup32(const float* table, I32 index) {
  int32_t at[16];
  float values[16];
  QUADS vst1q_s32(at + 4 * i, index.v[i]);
  for (int i = 0; i < 16; ++i) values[i] = table[at[i]];
  return load(values);
}

// acc[lane] += w[4 lane .. 4 lane + 3] * a[0 .. 3]
inline I32 dot4_signed(I32 acc, U8 w, const int8_t* a) {
  int32_t word;
  memcpy(&word, a, 4);
  const int8x16_t b = vreinterpretq_s8_s32(vdupq_n_s32(word));
  QUADS acc.v[i] = dot4_quad(acc.v[i], vreinterpretq_s8_u8(w.v[i]), b);
  return acc;
}
// weights 0 .. 127 are the same signed
inline I32 dot4(I32 acc, U8 w, const int8_t* a) { return dot4_signed(acc, w, a); }

// Four words of each of 16 rows, `stride` bytes apart, become four times 16 words.
inline uint32x4_t load_words(const uint8_t* p) { return vreinterpretq_u32_u8(vld1q_u8(p)); }
inline void store_words(uint8_t* p, uint32x4_t a) { vst1q_u8(p, vreinterpretq_u8_u32(a)); }
inline void transpose_words(const uint8_t* src, ptrdiff_t stride, uint8_t* dst) {
  for (int quad = 0; quad < 4; ++quad, src += 4 * stride, dst += 16) {
    const uint32x4_t a = load_words(src), b = load_words(src + stride);
    const uint32x4_t c = load_words(src + 2 * stride), d = load_words(src + 3 * stride);
    const uint32x4_t ac01 = vzip1q_u32(a, c), bd01 = vzip1q_u32(b, d);
    const uint32x4_t ac23 = vzip2q_u32(a, c), bd23 = vzip2q_u32(b, d);
    store_words(dst, vzip1q_u32(ac01, bd01));
    store_words(dst + 64, vzip2q_u32(ac01, bd01));
    store_words(dst + 128, vzip1q_u32(ac23, bd23));
    store_words(dst + 192, vzip2q_u32(ac23, bd23));
  }
}

// Folds lanes 8 apart, then 4, 2, 1: the one written order of sums across lanes.
inline float sum(F32 a) {
  const float32x4_t s4 = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
  return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
inline float max_lane(F32 a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3]))); }
inline int32_t max_lane(I32 a) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.v[0], a.v[1]), vmaxq_s32(a.v[2], a.v[3]))); }
inline int32_t sum(I32 a) { return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3]))); }

#undef QUADS
