// Sixteen lanes in plain C++: what every other simd.h must equal, operation by operation.
// clang-format off: one operation a line
constexpr int kAccumulators = 4;  // F32 sums that the registers hold beside a product's operands

struct F32 { float v[16]; };
struct I32 { int32_t v[16]; };
struct U8 { uint8_t v[64]; };  // four bytes for each of 16 lanes

#define LANES for (int i = 0; i < 16; ++i)
#define BYTES for (int i = 0; i < 64; ++i)

inline F32 splat(float x) { F32 r; LANES r.v[i] = x; return r; }
inline F32 load(const float* p) { F32 r; LANES r.v[i] = p[i]; return r; }
inline void store(float* p, F32 a) { LANES p[i] = a.v[i]; }
inline void stream(float* p, F32 a) { store(p, a); }
inline void stream_end() {}
inline F32 load_f16(const uint8_t* p) { F32 r; LANES r.v[i] = f16_to_f32(load_u16(p + 2 * i)); return r; }
inline F32 load_bf16(const uint8_t* p) { F32 r; LANES r.v[i] = bf16_to_f32(load_u16(p + 2 * i)); return r; }
inline void store_f16(uint8_t* p, F32 a) { LANES store_u16(p + 2 * i, f32_to_f16(a.v[i])); }

inline F32 operator+(F32 a, F32 b) { LANES a.v[i] += b.v[i]; return a; }
inline F32 operator-(F32 a, F32 b) { LANES a.v[i] -= b.v[i]; return a; }
inline F32 operator*(F32 a, F32 b) { LANES a.v[i] *= b.v[i]; return a; }
inline F32 operator/(F32 a, F32 b) { LANES a.v[i] /= b.v[i]; return a; }
inline F32 fma(F32 a, F32 b, F32 c) { LANES a.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]); return a; }
inline F32 max(F32 a, F32 b) { LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
inline F32 min(F32 a, F32 b) { LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
// x < limit ? a : b, and x > limit ? a : b (false where x is NaN)
inline F32 where_less(F32 x, F32 limit, F32 a, F32 b) { LANES b.v[i] = x.v[i] < limit.v[i] ? a.v[i] : b.v[i]; return b; }
inline F32 where_greater(F32 x, F32 limit, F32 a, F32 b) { return where_less(limit, x, a, b); }

inline I32 splat_i32(int32_t x) { I32 r; LANES r.v[i] = x; return r; }
inline I32 load_i32(const uint8_t* p) { I32 r; memcpy(r.v, p, 64); return r; }
inline I32 load_u16x16(const uint8_t* p) { I32 r; LANES r.v[i] = load_u16(p + 2 * i); return r; }
inline I32 load_i8x16(const uint8_t* p) { I32 r; LANES r.v[i] = static_cast<int8_t>(p[i]); return r; }
inline I32 load_u8x16(const uint8_t* p) { I32 r; LANES r.v[i] = p[i]; return r; }
inline I32 operator+(I32 a, I32 b) { LANES a.v[i] += b.v[i]; return a; }
inline I32 operator-(I32 a, I32 b) { LANES a.v[i] -= b.v[i]; return a; }
inline I32 operator*(I32 a, I32 b) { LANES a.v[i] *= b.v[i]; return a; }
inline I32 operator&(I32 a, I32 b) { LANES a.v[i] &= b.v[i]; return a; }
inline I32 operator|(I32 a, I32 b) { LANES a.v[i] |= b.v[i]; return a; }
inline I32 shift_left(I32 a, int n) { LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); return a; }
inline I32 shift_right(I32 a, int n) { LANES a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n); return a; }
inline I32 shift_right_signed(I32 a, int n) { LANES a.v[i] >>= n; return a; }
// byte 0 to 3 of each lane, as 0 .. 255
inline I32 byte_of(I32 a, int byte) { return shift_right(a, 8 * byte) & splat_i32(255); }
inline I32 operator^(I32 a, I32 b) { LANES a.v[i] ^= b.v[i]; return a; }
inline I32 gather(const uint32_t* table, I32 index) { LANES index.v[i] = static_cast<int32_t>(table[index.v[i]]); return index; }
inline U8 as_bytes(I32 a) { U8 r; memcpy(r.v, a.v, 64); return r; }
inline I32 max(I32 a, I32 b) { LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
inline F32 to_f32(I32 a) { F32 r; LANES r.v[i] = static_cast<float>(a.v[i]); return r; }
inline I32 bits(F32 a) { I32 r; memcpy(r.v, a.v, 64); return r; }
inline F32 from_bits(I32 a) { F32 r; memcpy(r.v, a.v, 64); return r; }
// It rounds to the nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves the integer in the low bits.
inline I32 round_to_i32(F32 a) {
  I32 r;
  LANES {
    const float shifted = a.v[i] + 12582912.0f;
    int32_t word;
    memcpy(&word, &shifted, 4);
    r.v[i] = word - 0x4b400000;
  }
  return r;
}
inline void store_i8(int8_t* p, I32 a) { LANES p[i] = static_cast<int8_t>(a.v[i]); }

inline U8 load_u8(const uint8_t* p) { U8 r; memcpy(r.v, p, 64); return r; }
inline void store_u8(uint8_t* p, U8 a) { memcpy(p, a.v, 64); }
inline U8 splat_u8(uint8_t x) { U8 r; BYTES r.v[i] = x; return r; }
inline U8 operator&(U8 a, U8 b) { BYTES a.v[i] &= b.v[i]; return a; }
inline U8 operator|(U8 a, U8 b) { BYTES a.v[i] |= b.v[i]; return a; }
inline U8 operator+(U8 a, U8 b) { BYTES a.v[i] = static_cast<uint8_t>(a.v[i] + b.v[i]); return a; }
// 3 * byte >> 8
inline U8 carry_of_three(U8 a) { BYTES a.v[i] = static_cast<uint8_t>(3 * a.v[i] >> 8); return a; }
// (byte >> shift) & mask; the mask has at most 8 - shift bits
inline U8 bit_field(U8 a, int shift, uint8_t mask) { BYTES a.v[i] = static_cast<uint8_t>(a.v[i] >> shift & mask); return a; }
// the bits of `mask`, taken from `from` bits up and put `to` bits up; they must fit a byte in both places
inline U8 move_field(U8 a, int from, int to, int mask) {
  BYTES a.v[i] = static_cast<uint8_t>((a.v[i] >> from & mask) << to);
  return a;
}
inline U8 lookup(const int8_t* table16, U8 index) { BYTES index.v[i] = static_cast<uint8_t>(table16[index.v[i] & 15]); return index; }

// table[index] for indices 0 .. 31
inline F32 lookup32(const float* table, I32 index) { F32 r; LANES r.v[i] = table[index.v[i]]; return r; }

// acc[lane] += w[4 lane .. 4 lane + 3] * a[0 .. 3]; weights 0 .. 127
inline I32 dot4(I32 acc, U8 w, const int8_t* a) {
  LANES acc.v[i] += w.v[4 * i] * a[0] + w.v[4 * i + 1] * a[1] + w.v[4 * i + 2] * a[2] + w.v[4 * i + 3] * a[3];
  return acc;
}
// the same for signed weights
inline I32 dot4_signed(I32 acc, U8 w, const int8_t* a) {
  LANES {
    const int8_t* b = reinterpret_cast<const int8_t*>(w.v) + 4 * i;
    acc.v[i] += b[0] * a[0] + b[1] * a[1] + b[2] * a[2] + b[3] * a[3];
  }
  return acc;
}

// Four words of each of 16 rows, `stride` bytes apart, become four times 16 words.
inline void transpose_words(const uint8_t* src, ptrdiff_t stride, uint8_t* dst) {
  for (int word = 0; word < 4; ++word) LANES memcpy(dst + 64 * word + 4 * i, src + i * stride + 4 * word, 4);
}

// Folds lanes 8 apart, then 4, 2, 1: the one written order of sums across lanes.
inline float sum(F32 a) {
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
  return a.v[0];
}
inline float max_lane(F32 a) { float m = a.v[0]; LANES m = a.v[i] > m ? a.v[i] : m; return m; }
inline int32_t max_lane(I32 a) { int32_t m = a.v[0]; LANES m = a.v[i] > m ? a.v[i] : m; return m; }
inline int32_t sum(I32 a) { int32_t s = 0; LANES s += a.v[i]; return s; }

#undef LANES
#undef BYTES
