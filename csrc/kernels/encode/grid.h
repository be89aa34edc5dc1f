// Vectors of a codebook (IQ1, IQ2, IQ3): of 256 to 2048 points of 4 or 8 dimensions, the one with the least weighted
// error. A point's error is the sum of those of its two halves, and a half has only 64 or 81 forms. So the errors of all
// forms are tabulated, and points lie sorted by their first half: for each, the least of the second halves that go with
// it, and one sum. That costs one operation a point and scale, and finds the true optimum.

// A codebook G has kPoints points kGrid of kDims dimensions, kLevels levels a dimension; level(t) is the value of level
// t in the sums, level_of(value) its number.
template <class G>
constexpr int kForms = G::kDims == 8 ? 81 : 64;  // forms of half a vector: 3^4 or 8^2

// Points by their first half. Halves that begin equally many points follow each other, so that the processor foresees
// how long the loop over them is.
template <class G>
struct Runs {
  int n = 0;  // first halves that occur
  uint8_t first[kForms<G>];
  uint16_t length[kForms<G>];
  uint8_t second[G::kPoints];
  uint16_t code[kForms<G> * 128];  // found by first half times 128 plus second half

  Runs() {
    uint16_t points[kForms<G>] = {};
    for (int p = 0; p < G::kPoints; ++p) ++points[form(p, 0)];
    int at = 0;
    for (int size = 1; size <= kForms<G>; ++size)
      for (int f = 0; f < kForms<G>; ++f)
        if (points[f] == size) at = add(f, size, at);
  }

 private:
  static int form(int point, int half) {
    int index = 0;
    for (int i = G::kDims / 2 - 1; i >= 0; --i)
      index = index * G::kLevels + G::level_of(G::grid(point)[half * G::kDims / 2 + i]);
    return index;
  }
  int add(int f, int size, int at) {
    first[n] = static_cast<uint8_t>(f);
    length[n++] = static_cast<uint16_t>(size);
    for (int p = 0; p < G::kPoints; ++p)
      if (form(p, 0) == f) {
        second[at++] = static_cast<uint8_t>(form(p, 1));
        code[128 * f + form(p, 1)] = static_cast<uint16_t>(p);
      }
    return at;
  }
};

// Errors of all forms of half a vector, (x - scale * (level + shift))^2 less x^2, for several scales. The number of a
// second half takes the place of its error's last seven bits: a minimum then brings along what it is of.
template <class G, int kWays>
struct FormErrors {
  F32 half[2][kForms<G>][kWays];

  FormErrors(const Batch& b, int first, const F32* scale, const F32* shift) {
    for (int h = 0; h < 2; ++h) fill(b, first + h * G::kDims / 2, scale, shift, half[h]);
    for (int f = 0; f < kForms<G>; ++f)
      for (int k = 0; k < kWays; ++k) half[1][f][k] = from_bits((bits(half[1][f][k]) & splat_i32(~127)) | splat_i32(f));
  }

 private:
  static void fill(const Batch& b, int first, const F32* scale, const F32* shift, F32 (*table)[kWays]) {
    int size = 1;
    for (int k = 0; k < kWays; ++k) table[0][k] = zero();
    for (int i = 0; i < G::kDims / 2; ++i, size *= G::kLevels) {
      const F32 w = b.weight(first + i), twice = w * b.value(first + i) * splat(-2);
      for (int t = G::kLevels - 1; t >= 0; --t)
        for (int k = 0; k < kWays; ++k) {
          const F32 level = scale[k] * (splat(G::level(t)) + shift[k]), error = level * fma(level, w, twice);
          for (int j = 0; j < size; ++j) table[t * size + j][k] = table[j][k] + error;
        }
    }
  }
};

// The least error at each scale, and the index in Runs::code, as a float, of its point.
template <class G, int kWays>
inline void best_points(const Runs<G>& runs, const FormErrors<G, kWays>& errors, F32* least, F32* index) {
  F32 best[kWays], first[kWays], second[kWays];
  for (int k = 0; k < kWays; ++k) best[k] = splat(3e38f), first[k] = second[k] = zero();
  const uint8_t* next = runs.second;
  for (int f = 0; f < runs.n; ++f) {
    F32 rest[kWays];
    for (int k = 0; k < kWays; ++k) rest[k] = errors.half[1][*next][k];
    for (int i = 1; i < runs.length[f]; ++i)
      for (int k = 0; k < kWays; ++k) rest[k] = min(rest[k], errors.half[1][next[i]][k]);
    const F32 number = splat(runs.first[f]);
    for (int k = 0; k < kWays; ++k) {
      const F32 error = errors.half[0][runs.first[f]][k] + rest[k];
      first[k] = where_less(error, best[k], number, first[k]);
      second[k] = where_less(error, best[k], rest[k], second[k]);
      best[k] = min(error, best[k]);
    }
    next += runs.length[f];
  }
  for (int k = 0; k < kWays; ++k) {
    least[k] = best[k];
    index[k] = fma(first[k], splat(128), to_f32(bits(second[k]) & splat_i32(127)));
  }
}

// Signs of vectors of eight are put aside so that the search sees magnitudes.
struct Signs {
  I32 bits[32];  // bit i of vector v: element 8 v + i is negative
};

// Where the format says seven signs and an eighth that makes the minus signs even, the element that costs least is turned
// round instead (its "magnitude" is then negative).
template <bool kEven>
inline void take_signs(Batch& b, Signs& signs) {
  for (int v = 0; v < 32; ++v) {
    I32 bits_of_all = splat_i32(0), parity = splat_i32(0);
    F32 least = splat(3e38f), cheapest = zero();
    for (int i = 0; i < 8; ++i) {
      const F32 x = b.value(8 * v + i), cost = b.weight(8 * v + i) * x * x;
      const I32 minus = shift_right(bits(x), 31);
      bits_of_all = bits_of_all | shift_left(minus, i);
      parity = parity + minus;
      cheapest = where_less(cost, least, splat(static_cast<float>(1 << i)), cheapest);
      least = min(cost, least);
      store(b.x + kBatch * (8 * v + i), magnitude(x));
    }
    if (kEven) {
      const I32 odd = parity & splat_i32(1);
      const I32 flip = round_to_i32(cheapest) & (splat_i32(0) - odd);
      bits_of_all = (bits_of_all | flip) - (bits_of_all & flip);
      for (int i = 0; i < 8; ++i) {
        const I32 turned = shift_left(shift_right(flip, i) & splat_i32(1), 31);
        const int e = kBatch * (8 * v + i);
        store(b.x + e, from_bits(bits(load(b.x + e)) | turned));
      }
    }
    signs.bits[v] = bits_of_all;
  }
}
