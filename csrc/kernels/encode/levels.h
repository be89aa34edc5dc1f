// What a weight can be, in units of its block's scale: integers of a range, or the values of a codebook.

// Levels are kLow .. kHigh, stored as q - kLow.
template <int kLow, int kHigh>
struct Integers {
  static F32 nearest(F32 x, F32 inverse) { return clamp_shifted(fma(x, inverse, splat(kRounder))) - splat(kRounder); }
  static I32 code(F32 x, F32 inverse) { return round_to_i32(nearest(x, inverse) - splat(kLow)); }

 private:
  static F32 clamp_shifted(F32 a) { return clamp(a, kRounder + kLow, kRounder + kHigh); }
};

// Sixteen values. A bucket of the number line, one of 32, has at most one midpoint between values in it: beyond it, the
// next bucket's value is the nearest one.
struct Codebook {
  float inverse_width, low, high;  // 1 / a bucket's width; the range that the buckets cover
  float midpoint[32], value[32], code[32];
};

constexpr Codebook make_codebook(const float* values, const int* codes, int n, float low, float width) {
  Codebook c{};
  c.inverse_width = 1 / width;
  c.low = low;
  c.high = low + 32 * width;
  int k = 0;
  for (int b = 0; b < 32; ++b) {
    c.value[b] = values[k];
    c.code[b] = static_cast<float>(codes[k]);
    c.midpoint[b] = 1e30f;
    if (k + 1 < n && (values[k] + values[k + 1]) / 2 < low + static_cast<float>(b + 1) * width) {
      c.midpoint[b] = (values[k] + values[k + 1]) / 2;
      ++k;
    }
  }
  return c;
}

template <const Codebook& kBook>
struct Coded {
  static F32 nearest(F32 x, F32 inverse) { return lookup32(kBook.value, slot(x * inverse)); }
  static I32 code(F32 x, F32 inverse) { return round_to_i32(lookup32(kBook.code, slot(x * inverse))); }

 private:
  static I32 slot(F32 t) {
    const float half = 0.5f / kBook.inverse_width;
    const F32 inside = clamp(t, kBook.low + half, kBook.high - half);
    const I32 bucket = round_to_i32((inside - splat(kBook.low + half)) * splat(kBook.inverse_width));
    const F32 midpoint = lookup32(kBook.midpoint, bucket);
    return bucket + round_to_i32(where_greater(inside, midpoint, splat(1), zero()));
  }
};

constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int kIq4Codes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static constexpr Codebook kIq4Book = make_codebook(kIq4Values, kIq4Codes, 16, -128, 8);

// Doubled four-bit floats.
constexpr float kFp4Values[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};
constexpr int kFp4Codes[15] = {15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7};
static constexpr Codebook kFp4Book = make_codebook(kFp4Values, kFp4Codes, 15, -16, 1);
