// Super-blocks of codebook vectors (IQ2, IQ3, IQ1): x is about unit * (2 s + 1) * vector, with a small integer s for each
// sub-block, and in IQ1 all levels shifted up or down by an eighth. As in super_scale.h: the best scale of each sub-block
// among some first, the unit whose odd multiples fit them, then in turns each sub-block's better neighbour and the unit
// refitted to all vectors.

template <class G>
struct GridSearch {
  static constexpr int kVectors = 256 / G::kDims, kSub = 256 / G::kSubSize;  // vectors and sub-blocks of a block
  static constexpr int kEach = G::kSubSize / G::kDims;                       // vectors of a sub-block
  static constexpr int kShifts = G::kShifted ? 2 : 1;

  const Runs<G>& runs;
  // What is stored: numbers of points, s, shifts, and the unit, which binary16 holds times G::kUnit.
  F32 codes[kVectors], s[kSub], shift[kVectors], unit, error;

  explicit GridSearch(const Runs<G>& r) : runs(r) {}

  // A sub-block at one scale: its error, and for each vector the point (an index in Runs::code) and the shift.
  struct SubBlock {
    F32 error, index[kEach], shift[kEach];
  };

  // It tries two scales. Shifts are free for each vector or one for all, as the format has them.
  void search_sub(const Batch& b, int sub, const F32* two, SubBlock* found) const {
    constexpr int kWays = 2 * kShifts;
    F32 scale[kWays], moved[kWays], least[kEach][kWays], index[kEach][kWays], total[kWays];
    for (int k = 0; k < kWays; ++k) {
      scale[k] = two[k % 2];
      moved[k] = splat(G::shift(k / 2));
      total[k] = zero();
    }
    for (int i = 0; i < kEach; ++i) {
      const FormErrors<G, kWays> errors(b, G::kDims * (kEach * sub + i), scale, moved);
      best_points<G>(runs, errors, least[i], index[i]);
      for (int k = 0; k < kWays; ++k) total[k] = total[k] + least[i][k];
    }
    for (int k = 0; k < 2; ++k) {
      const int other = kWays - 2 + k;
      found[k].error = G::kFreeShift ? zero() : min(total[k], total[other]);
      for (int i = 0; i < kEach; ++i) {
        const F32* by = G::kFreeShift ? least[i] : total;
        found[k].index[i] = where_less(by[other], by[k], index[i][other], index[i][k]);
        found[k].shift[i] = where_less(by[other], by[k], moved[other], moved[k]);
        if (G::kFreeShift) found[k].error = found[k].error + min(by[k], by[other]);
      }
    }
  }

  // Sums of w x u and w u u over a sub-block's vectors u; indices become the numbers of points.
  Moments sub_moments(const Batch& b, int sub) {
    Moments m = {zero(), zero()};
    for (int v = kEach * sub; v < kEach * (sub + 1); ++v) {
      alignas(64) float points[G::kDims * kBatch], numbers[kBatch];
      store(numbers, codes[v]);
      for (int lane = 0; lane < kBatch; ++lane) {
        const int code = runs.code[static_cast<int>(numbers[lane])];
        const int8_t* point = G::grid(code);
        numbers[lane] = static_cast<float>(code);
        for (int i = 0; i < G::kDims; ++i) points[kBatch * i + lane] = point[i];
      }
      codes[v] = load(numbers);
      for (int i = 0; i < G::kDims; ++i) {
        const F32 u = load(points + kBatch * i) + shift[v], wu = b.weight(G::kDims * v + i) * u;
        m.qx = fma(wu, b.value(G::kDims * v + i), m.qx);
        m.qq = fma(wu, u, m.qq);
      }
    }
    return m;
  }

  static F32 odd(F32 s) { return fma(s, splat(2), splat(1)); }
  static F32 unit_of(F32 wanted) { return as_f16(wanted * splat(G::kUnit)) * splat(1 / G::kUnit); }

  // The best of some scales, refitted, as if each element could have any level.
  Fit sub_scale(const Batch& b, int sub) const {
    F32 top = zero(), energy = zero();
    const int begin = G::kSubSize * sub, end = begin + G::kSubSize;
    for (int e = begin; e < end; ++e) {
      const F32 x = b.value(e);
      top = max(top, magnitude(x));
      energy = fma(b.weight(e) * x, x, energy);
    }
    F32 best = zero(), most = splat(-1);
    for (int i = 0; i < G::kTries; i += 2) {
      F32 inverse[2];
      Moments m[2];
      for (int k = 0; k < 2; ++k) inverse[k] = ratio(splat(G::kFirst + static_cast<float>(i + k) * G::kStep), top);
      moments<G, 2>(b, begin, G::kSubSize, inverse, m);
      for (int k = 0; k < 2; ++k) {
        const F32 scale = ratio(m[k].qx, m[k].qq), gain = scale * m[k].qx;
        best = where_greater(gain, most, scale, best);
        most = max(gain, most);
      }
    }
    return {best, ratio(energy, best * best)};
  }

  void best_odd_unit(const Fit* fits) {
    F32 top = zero(), least = splat(3e38f);
    unit = zero();
    for (int j = 0; j < kSub; ++j) top = max(top, fits[j].scale);
    for (int i = 0; i < 16; ++i) {
      const float at = 2 * G::kTopScale + 1.6f - static_cast<float>(i) * (2.0f * G::kTopScale / 24.0f);
      const F32 u = unit_of(top * splat(1 / at)), inverse = ratio(splat(0.5f), u);
      F32 total = zero();
      for (int j = 0; j < kSub; ++j) {
        const F32 near = rounded_clamp(fma(fits[j].scale, inverse, splat(-0.5f)), 0, G::kTopScale);
        const F32 rest = fma(negative(odd(near)), u, fits[j].scale);
        total = fma(fits[j].curvature * rest, rest, total);
      }
      unit = where_less(total, least, u, unit);
      least = min(total, least);
    }
  }

  // Chooses s and points for the unit; the sum of the moments is what the next unit comes from.
  F32 turn(const Batch& b, Fit* fits) {
    const F32 inverse = ratio(splat(0.5f), unit);
    F32 ux = zero(), uu = zero();
    error = zero();
    for (int j = 0; j < kSub; ++j) {
      const F32 exact = fma(fits[j].scale, inverse, splat(-0.5f));
      const F32 low = rounded_clamp(exact - splat(0.5f), 0, G::kTopScale),
                high = clamp(low + splat(1), 0, G::kTopScale);
      const F32 scale[2] = {unit * odd(low), unit * odd(high)};
      SubBlock found[2];
      search_sub(b, j, scale, found);
      const auto better = [&](F32 of_high, F32 of_low) {
        return where_less(found[1].error, found[0].error, of_high, of_low);
      };
      s[j] = better(high, low);
      error = error + min(found[0].error, found[1].error);
      for (int i = 0; i < kEach; ++i) {
        codes[kEach * j + i] = better(found[1].index[i], found[0].index[i]);
        shift[kEach * j + i] = better(found[1].shift[i], found[0].shift[i]);
      }
      const Moments m = sub_moments(b, j);
      fits[j].scale = ratio(m.qx, m.qq);  // the best scale for these points is tried next time
      ux = fma(odd(s[j]), m.qx, ux);
      uu = fma(odd(s[j]) * odd(s[j]), m.qq, uu);
    }
    return unit_of(max(ratio(ux, uu), zero()));
  }

  void keep_better(const GridSearch& other) {
    const auto better = [&](F32 theirs, F32 ours) { return where_less(other.error, error, theirs, ours); };
    for (int v = 0; v < kVectors; ++v) {
      codes[v] = better(other.codes[v], codes[v]);
      shift[v] = better(other.shift[v], shift[v]);
    }
    for (int j = 0; j < kSub; ++j) s[j] = better(other.s[j], s[j]);
    unit = better(other.unit, unit);
    error = min(other.error, error);
  }

  void search(const Batch& b) {
    Fit fits[kSub];
    for (int j = 0; j < kSub; ++j) fits[j] = sub_scale(b, j);
    best_odd_unit(fits);
    GridSearch next(*this);
    next.unit = turn(b, fits);
    for (int i = 1; i < G::kTurns; ++i) {
      const F32 refitted = next.turn(b, fits);
      keep_better(next);
      next.unit = refitted;
    }
  }

  F32 d() const { return unit * splat(G::kUnit); }
  I32 code(int v) const { return round_to_i32(codes[v]); }
  I32 scale(int sub) const { return round_to_i32(s[sub]); }
  I32 is_down(int v) const { return shift_right(bits(shift[v]), 31); }
};
