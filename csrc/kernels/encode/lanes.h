// Sixteen blocks side by side: element e of all of them is one vector, so a search written for one block runs for
// sixteen, and every level gives the same bytes.

constexpr int kMostElements = 256;  // elements of a block
constexpr int kMostSubBlocks = 16;

struct Batch {
  alignas(64) float x[kMostElements * kBatch];
  alignas(64) float w[kMostElements * kBatch];
  alignas(64) I32 q[kMostElements];  // the integers of the block as they are stored, filled in last
  bool weighted;                     // whether w is not 1 everywhere

  F32 value(int e) const { return load(x + kBatch * e); }
  F32 weight(int e) const { return load(w + kBatch * e); }
};

// It turns 16 blocks of kElements floats, one after the other, into vectors.
template <int kElements>
inline void transpose_blocks(const float* src, float* dst) {
  const ptrdiff_t stride = kElements * static_cast<ptrdiff_t>(sizeof(float));
  for (int e = 0; e < kElements; e += 4)
    transpose_words(reinterpret_cast<const uint8_t*>(src + e), stride, reinterpret_cast<uint8_t*>(dst + kBatch * e));
}

inline F32 zero() { return splat(0); }
inline F32 negative(F32 a) { return splat(0) - a; }
inline F32 magnitude(F32 a) { return from_bits(bits(a) & splat_i32(0x7fffffff)); }

// a / b, and 0 where b is 0
inline F32 ratio(F32 a, F32 b) { return where_greater(magnitude(b), zero(), a / b, zero()); }

// Added to a number below 2^22, this leaves the nearest integer, ties to even, in the low bits.
constexpr float kRounder = 12582912.0f;
inline F32 nearest_integer(F32 a) { return (a + splat(kRounder)) - splat(kRounder); }
inline F32 clamp(F32 a, float low, float high) { return min(max(a, splat(low)), splat(high)); }
inline F32 rounded_clamp(F32 a, float low, float high) { return nearest_integer(clamp(a, low, high)); }

// This is x as binary16 holds it; beyond its range it is the largest number that binary16 has.
inline F32 as_f16(F32 a) {
  uint8_t half[32];
  store_f16(half, clamp(a, -65504.0f, 65504.0f));
  return load_f16(half);
}

// The element of greatest magnitude among n, with its sign.
inline F32 extreme(const Batch& b, int first, int n) {
  F32 best = b.value(first);
  for (int e = first + 1; e < first + n; ++e) {
    const F32 x = b.value(e);
    best = where_greater(magnitude(x), magnitude(best), x, best);
  }
  return best;
}

// This is the element whose weighted square is greatest.
inline F32 heaviest(const Batch& b, int first, int n) {
  F32 best = splat(-1), top = zero();
  for (int e = first; e < first + n; ++e) {
    const F32 x = b.value(e), weight = b.weight(e) * x * x;
    top = where_greater(weight, best, x, top);
    best = max(weight, best);
  }
  return top;
}

// A writer sets a field of every lane's block, `at` bytes from its start.

struct Blocks {
  uint8_t* dst;
  ptrdiff_t bytes;  // bytes of a block

  void words(int at, const I32* words, int n) const {
    alignas(64) int32_t lanes[kBatch];
    for (int i = 0; i < n; ++i) {
      store(reinterpret_cast<float*>(lanes), from_bits(words[i]));
      for (int lane = 0; lane < kBatch; ++lane) memcpy(dst + lane * bytes + at + 4 * i, lanes + lane, 4);
    }
  }
  void half(int at, F32 value) const {
    uint8_t halves[2 * kBatch];
    store_f16(halves, value);
    for (int lane = 0; lane < kBatch; ++lane) memcpy(dst + lane * bytes + at, halves + 2 * lane, 2);
  }
  // The low `n` bytes (1 to 4) of a word.
  void low_bytes(int at, I32 word, int n) const {
    alignas(64) int32_t lanes[kBatch];
    store(reinterpret_cast<float*>(lanes), from_bits(word));
    for (int lane = 0; lane < kBatch; ++lane) memcpy(dst + lane * bytes + at, lanes + lane, static_cast<size_t>(n));
  }
  // n bytes (a multiple of 4) that `byte(i)` gives, 0 .. 255 in each lane.
  template <class Byte>
  void bytes_of(int at, int n, const Byte& byte) const {
    for (int i = 0; i < n; i += 4) {
      const I32 word =
          (byte(i) | shift_left(byte(i + 1), 8)) | (shift_left(byte(i + 2), 16) | shift_left(byte(i + 3), 24));
      words(at + i, &word, 1);
    }
  }
};

// A byte takes two bits of each of four elements, 32 apart.
inline void put_two_bits(const Batch& b, const Blocks& out, int at) {
  for (int h = 0; h < 2; ++h)
    out.bytes_of(at + 32 * h, 32, [&](int i) {
      const I32* q = b.q + 128 * h + i;
      const I32 three = splat_i32(3);
      return ((q[0] & three) | shift_left(q[32] & three, 2)) |
             (shift_left(q[64] & three, 4) | shift_left(q[96] & three, 6));
    });
}
