// The tile registers of AMX by number: up to 16 rows of 64 bytes, in the shapes of the last configuration.
//
// The instructions stand in assembly that names the memory it reads or writes: the headers of gcc up to 13 take the
// configuration for eight bytes, and let stores move past the tile loads that need them.

struct alignas(64) TileShapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
using TileSums = int32_t[16][16];  // [rows of x][weight rows]
using FloatSums = float[16][16];
constexpr TileShapes kFullTiles = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
static_assert(sizeof(TileShapes) == 64, "ldtilecfg reads 64 bytes");

#if !defined(LLAMAQ_EMULATE)

inline void configure_tiles(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
inline void release_tiles() { asm volatile("tilerelease"); }

template <int kTile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// rows lie `stride` bytes apart in `memory`
template <int kTile, class Memory>
inline void load_tile(const int8_t* rows, int64_t stride, const Memory& memory) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTile), "m"(memory));
}
template <int kTile, class Sums>
inline void store_tile(Sums& sums) {
  asm volatile("tilestored %%tmm%c3, (%1,%2,1)" : "=m"(sums) : "r"(&sums), "r"(int64_t{64}), "i"(kTile));
}
// sums[m][n] += products of signed bytes 4k .. 4k+3 of a's row m and of word n in b's row k, over all k
template <int kSums, int kA, int kB>
inline void add_tile_product() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
// The same for floats and pairs of bfloat16 in place of four bytes.
template <int kSums, int kA, int kB>
inline void add_bf16_product() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}

#else  // Tests use the same operations on arrays, as strict about shapes as the CPU.

struct SoftwareTile {
  int8_t rows[16][64];
};
static thread_local TileShapes tile_shapes;
static thread_local SoftwareTile software_tiles[8];

inline void configure_tiles(const TileShapes& shapes) {
  if (shapes.palette != 1) __builtin_trap();
  tile_shapes = shapes;
}
inline void release_tiles() { memset(&tile_shapes, 0, sizeof tile_shapes); }

inline SoftwareTile& software_tile(int tile) {
  if (tile_shapes.palette != 1 || tile_shapes.rows[tile] == 0) __builtin_trap();
  return software_tiles[tile];
}
template <int kTile>
inline void zero_tile() {
  memset(&software_tile(kTile), 0, sizeof(SoftwareTile));
}
template <int kTile, class Memory>
inline void load_tile(const int8_t* rows, int64_t stride, const Memory&) {
  zero_tile<kTile>();
  for (int i = 0; i < tile_shapes.rows[kTile]; ++i)
    memcpy(software_tile(kTile).rows[i], rows + i * stride, tile_shapes.row_bytes[kTile]);
}
template <int kTile, class Sums>
inline void store_tile(Sums& sums) {
  for (int i = 0; i < tile_shapes.rows[kTile]; ++i)
    memcpy(sums[i], software_tile(kTile).rows[i], tile_shapes.row_bytes[kTile]);
}
inline void check_product(int sums, int a, int b) {
  const TileShapes& s = tile_shapes;
  const bool fits = s.rows[sums] == s.rows[a] && s.row_bytes[sums] == s.row_bytes[b];
  if (!fits || s.row_bytes[a] != 4 * s.rows[b]) __builtin_trap();
}
template <int kSums, int kA, int kB>
inline void add_tile_product() {
  const TileShapes& s = tile_shapes;
  SoftwareTile &sums = software_tile(kSums), &a = software_tile(kA), &b = software_tile(kB);
  check_product(kSums, kA, kB);
  for (int m = 0; m < s.rows[kSums]; ++m)
    for (int n = 0; n < s.row_bytes[kSums]; n += 4) {
      int32_t sum;
      memcpy(&sum, sums.rows[m] + n, 4);
      for (int k = 0; k < s.row_bytes[kA]; ++k) sum += a.rows[m][k] * b.rows[k / 4][n + k % 4];
      memcpy(sums.rows[m] + n, &sum, 4);
    }
}
// It sums in the order of the instruction: first and second members of the pairs have a chain of fma each, and subnormal
// numbers count as zero.
template <int kSums, int kA, int kB>
inline void add_bf16_product() {
  const TileShapes& s = tile_shapes;
  SoftwareTile &sums = software_tile(kSums), &a = software_tile(kA), &b = software_tile(kB);
  check_product(kSums, kA, kB);
  const unsigned state = _mm_getcsr();
  _mm_setcsr(state | 0x8040);
  for (int m = 0; m < s.rows[kSums]; ++m) {
    __m512 chains[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int k = 0; k < s.rows[kB]; ++k) {
      uint32_t x;
      memcpy(&x, a.rows[m] + 4 * k, 4);
      const __m512i w = _mm512_loadu_si512(b.rows[k]), high = _mm512_set1_epi32(-65536);
      const __m512i x2 = _mm512_set1_epi32(static_cast<int>(x));
      const auto floats = [](__m512i bits) { return _mm512_castsi512_ps(bits); };
      chains[0] = _mm512_fmadd_ps(floats(_mm512_slli_epi32(x2, 16)), floats(_mm512_slli_epi32(w, 16)), chains[0]);
      chains[1] = _mm512_fmadd_ps(floats(_mm512_and_si512(x2, high)), floats(_mm512_and_si512(w, high)), chains[1]);
    }
    float* row = reinterpret_cast<float*>(sums.rows[m]);
    _mm512_storeu_ps(row, _mm512_add_ps(_mm512_loadu_ps(row), _mm512_add_ps(chains[0], chains[1])));
  }
  _mm_setcsr(state);
}

#endif
