// One token of one head of Mamba-2. The matrix T of the past decays, what came is put into it along b, and c reads it; what
// came is added once more, times a number of the head's:
//   T = decay T + b (x * step);  y = c T + skip x
// A column of T is a lane. The sum goes down the rows in one chain of fma, so the bits are those of one lane alone.
template <int kVectors>
inline void scan_columns(const ScanArgs& a, int64_t first, int lanes, bool passing) {
  const F32 decay = splat(a.decay);
  F32 came[kVectors], sums[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    came[i] = load_first(a.x + first + 16 * i, lanes) * splat(a.step);
    sums[i] = splat(0);
  }
  for (int64_t row = 0; row < a.state_dim; ++row) {
    const F32 b = splat(a.b[row]), c = splat(a.c[row]);
    for (int i = 0; i < kVectors; ++i) {
      const int64_t at = row * a.head_dim + first + 16 * i;
      const F32 t = fma(b, came[i], load_first(a.before + at, lanes) * decay);
      put_state(a.after + at, t, lanes, passing);
      sums[i] = fma(t, c, sums[i]);
    }
  }
  for (int i = 0; i < kVectors; ++i) {
    const int64_t at = first + 16 * i;
    store_first(a.y + at, fma(splat(a.skip), load_first(a.x + at, lanes), sums[i]), lanes);
  }
}

inline void ssm_scan(const ScanArgs& a) {
  const bool passing = passes(a.before, a.after, a.head_dim);
  int64_t column = 0;
  for (; column + 64 <= a.head_dim; column += 64) scan_columns<4>(a, column, 16, passing);
  for (; column < a.head_dim; column += 16) scan_columns<1>(a, column, lanes_left(column, a.head_dim), passing);
  if (passing) stream_end();
}
