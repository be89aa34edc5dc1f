// IQ3, IQ2 and IQ1: their codebooks, and how their blocks are laid out (src/llamaq/formats/iquants.py).

#include "kernels/generic/iq_grids.h"

// A codebook: its points and levels; kFirst, kStep, kTries: the places among the levels where the greatest element is
// put; nearest: the nearest level; kUnit: d in units of the scale of the grid's numbers.
struct Odd16 {  // 2 s + 1 with s of four bits, levels that signs are applied to
  static constexpr int kTopScale = 15, kTurns = 2;
  static constexpr bool kShifted = false, kFreeShift = false;
  static constexpr float shift(int) { return 0; }
};

struct ThreeLevels : Odd16 {
  static constexpr int kDims = 8, kLevels = 3, kTries = 8;
  static constexpr float kUnit = 8, kFirst = 28, kStep = 4;
  static constexpr float level(int t) { return t == 0 ? 8.0f : t == 1 ? 25.0f : 43.0f; }
  static int level_of(int value) { return (value > 8) + (value > 25); }
  static F32 nearest(F32 x, F32 inverse) {
    const F32 t = x * inverse;
    return where_less(t, splat(16.5f), splat(8), where_less(t, splat(34), splat(25), splat(43)));
  }
};

struct Grid_IQ2_XXS : ThreeLevels {
  static constexpr int kPoints = 256, kSubSize = 32;
  static const int8_t* grid(int p) { return kIQ2XXS[p]; }
};
struct Grid_IQ2_XS : ThreeLevels {
  static constexpr int kPoints = 512, kSubSize = 16;
  static const int8_t* grid(int p) { return kIQ2XS[p]; }
};
struct Grid_IQ2_S : ThreeLevels {
  static constexpr int kPoints = 1024, kSubSize = 16;
  static const int8_t* grid(int p) { return kIQ2S[p]; }
};

struct Grid_IQ3_XXS : Odd16 {
  static constexpr int kDims = 4, kLevels = 8, kTries = 8, kPoints = 256, kSubSize = 32;
  static constexpr float kUnit = 4, kFirst = 44, kStep = 4;
  static constexpr float level(int t) { return t == 7 ? 62.0f : static_cast<float>(8 * t + 4); }
  static int level_of(int value) { return (value - 4) / 8; }
  static F32 nearest(F32 x, F32 inverse) {
    return fma(rounded_clamp(fma(x, inverse * splat(0.125f), splat(-0.5f)), 0, 7), splat(8), splat(4));
  }
  static const int8_t* grid(int p) { return kIQ3XXS[p]; }
};
struct Grid_IQ3_S : Odd16 {
  static constexpr int kDims = 4, kLevels = 8, kTries = 8, kPoints = 512, kSubSize = 32;
  static constexpr float kUnit = 1, kFirst = 11, kStep = 0.9f;
  static constexpr float level(int t) { return static_cast<float>(2 * t + 1); }
  static int level_of(int value) { return value / 2; }
  static F32 nearest(F32 x, F32 inverse) {
    return fma(rounded_clamp(fma(x, inverse * splat(0.5f), splat(-0.5f)), 0, 7), splat(2), splat(1));
  }
  static const int8_t* grid(int p) { return kIQ3S[p]; }
};

struct Shifted {  // -1, 0, 1, all an eighth up or down; 2 s + 1 with s of three bits
  static constexpr int kDims = 8, kLevels = 3, kPoints = 2048, kTopScale = 7, kTurns = 1, kTries = 8;
  static constexpr bool kShifted = true;
  static constexpr float kUnit = 1, kFirst = 1.0f, kStep = 0.35f;
  static constexpr float level(int t) { return static_cast<float>(t - 1); }
  static constexpr float shift(int k) { return k == 0 ? 0.125f : -0.125f; }
  static int level_of(int value) { return value + 1; }
  static F32 nearest(F32 x, F32 inverse) { return Integers<-1, 1>::nearest(x, inverse); }
  static const int8_t* grid(int p) { return kIQ1S[p]; }
};
struct Grid_IQ1_S : Shifted {
  static constexpr int kSubSize = 32;
  static constexpr bool kFreeShift = false;
};
struct Grid_IQ1_M : Shifted {
  static constexpr int kSubSize = 16;
  static constexpr bool kFreeShift = true;
};

// A word has seven signs for each of four vectors of eight, and s above them.
template <class G>
inline I32 signs_and_scale(const Signs& signs, const GridSearch<G>& g, int sub) {
  I32 word = shift_left(g.scale(sub), 28);
  for (int k = 0; k < 4; ++k) word = word | shift_left(signs.bits[4 * sub + k] & splat_i32(127), 7 * k);
  return word;
}

template <class G>
inline I32 scale_pair(const GridSearch<G>& g, int i) {
  return g.scale(2 * i) | shift_left(g.scale(2 * i + 1), 4);
}

inline I32 low_byte(I32 a) { return a & splat_i32(255); }

// Takes the signs off, finds the points that are nearest to the magnitudes, and puts d in front.
template <bool kEven, class Search>
inline void search_magnitudes(Batch& b, Signs& signs, Search& g, const Blocks& out) {
  take_signs<kEven>(b, signs);
  g.search(b);
  out.half(0, g.d());
}

struct Encode_IQ2_XXS {
  using Grid = Grid_IQ2_XXS;
  static constexpr int kElements = kBlock_IQ2_XXS, kBytes = kBytes_IQ2_XXS;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    Signs signs;
    GridSearch<Grid> g(runs);
    search_magnitudes<true>(b, signs, g, out);
    for (int j = 0; j < 8; ++j) {
      out.bytes_of(2 + 8 * j, 4, [&](int i) { return g.code(4 * j + i); });
      const I32 word = signs_and_scale(signs, g, j);
      out.words(6 + 8 * j, &word, 1);
    }
  }
};

struct Encode_IQ2_XS {
  using Grid = Grid_IQ2_XS;
  static constexpr int kElements = kBlock_IQ2_XS, kBytes = kBytes_IQ2_XS;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    Signs signs;
    GridSearch<Grid> g(runs);
    search_magnitudes<true>(b, signs, g, out);
    for (int v = 0; v < 32; v += 2) {
      const auto packed = [&](int i) { return g.code(i) | shift_left(signs.bits[i] & splat_i32(127), 9); };
      const I32 word = packed(v) | shift_left(packed(v + 1), 16);
      out.words(2 + 2 * v, &word, 1);
    }
    out.bytes_of(66, 8, [&](int i) { return scale_pair(g, i); });
  }
};

struct Encode_IQ2_S {
  using Grid = Grid_IQ2_S;
  static constexpr int kElements = kBlock_IQ2_S, kBytes = kBytes_IQ2_S;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    Signs signs;
    GridSearch<Grid> g(runs);
    search_magnitudes<false>(b, signs, g, out);
    out.bytes_of(2, 32, [&](int i) { return low_byte(g.code(i)); });
    out.bytes_of(34, 32, [&](int i) { return signs.bits[i]; });
    out.bytes_of(66, 8, [&](int i) {
      const auto high = [&](int k) { return shift_left(shift_right(g.code(4 * i + k), 8), 2 * k); };
      return (high(0) | high(1)) | (high(2) | high(3));
    });
    out.bytes_of(74, 8, [&](int i) { return scale_pair(g, i); });
  }
};

struct Encode_IQ3_XXS {
  using Grid = Grid_IQ3_XXS;
  static constexpr int kElements = kBlock_IQ3_XXS, kBytes = kBytes_IQ3_XXS;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    Signs signs;
    GridSearch<Grid> g(runs);
    search_magnitudes<true>(b, signs, g, out);
    out.bytes_of(2, 64, [&](int i) { return g.code(i); });
    for (int j = 0; j < 8; ++j) {
      const I32 word = signs_and_scale(signs, g, j);
      out.words(66 + 4 * j, &word, 1);
    }
  }
};

struct Encode_IQ3_S {
  using Grid = Grid_IQ3_S;
  static constexpr int kElements = kBlock_IQ3_S, kBytes = kBytes_IQ3_S;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    Signs signs;
    GridSearch<Grid> g(runs);
    search_magnitudes<false>(b, signs, g, out);
    out.bytes_of(2, 64, [&](int i) { return low_byte(g.code(i)); });
    out.bytes_of(66, 8, [&](int i) {
      I32 byte = splat_i32(0);
      for (int k = 0; k < 8; ++k) byte = byte | shift_left(shift_right(g.code(8 * i + k), 8), k);
      return byte;
    });
    out.bytes_of(74, 32, [&](int i) { return signs.bits[i]; });
    out.bytes_of(106, 4, [&](int i) { return scale_pair(g, i); });
  }
};

struct Encode_IQ1_S {
  using Grid = Grid_IQ1_S;
  static constexpr int kElements = kBlock_IQ1_S, kBytes = kBytes_IQ1_S;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    GridSearch<Grid> g(runs);
    g.search(b);
    out.half(0, g.d());
    out.bytes_of(2, 32, [&](int i) { return low_byte(g.code(i)); });
    for (int j = 0; j < 8; ++j) {
      I32 word = shift_left(g.scale(j), 12) | shift_left(g.is_down(4 * j), 15);
      for (int k = 0; k < 4; ++k) word = word | shift_left(shift_right(g.code(4 * j + k), 8), 3 * k);
      out.low_bytes(34 + 2 * j, word, 2);
    }
  }
};

struct Encode_IQ1_M {
  using Grid = Grid_IQ1_M;
  static constexpr int kElements = kBlock_IQ1_M, kBytes = kBytes_IQ1_M;
  static void encode(Batch& b, const Runs<Grid>& runs, const Blocks& out) {
    GridSearch<Grid> g(runs);
    g.search(b);
    out.bytes_of(0, 32, [&](int i) { return low_byte(g.code(i)); });
    out.bytes_of(32, 16, [&](int i) {
      const auto nibble = [&](int v) { return shift_right(g.code(v), 8) | shift_left(g.is_down(v), 3); };
      return nibble(2 * i) | shift_left(nibble(2 * i + 1), 4);
    });
    uint8_t halves[2 * kBatch];
    store_f16(halves, g.d());
    const I32 d = load_u16x16(halves);
    for (int k = 0; k < 4; ++k) {  // writes four scales of three bits, and four bits of d
      I32 word = shift_left(shift_right(d, 4 * k) & splat_i32(15), 12);
      for (int i = 0; i < 4; ++i) word = word | shift_left(g.scale(4 * k + i), 3 * i);
      out.low_bytes(48 + 2 * k, word, 2);
    }
  }
};
