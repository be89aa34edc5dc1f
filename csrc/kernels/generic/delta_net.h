// One token of one head of a gated delta net. The matrix T of the past decays, the value that it has for the key is taken
// from the one that came, and what is left, times the strength, is put in its place; the query reads the result:
//   T *= decay;  c = (v - k T) * strength;  T += k c;  y = q T
// A column of T is a lane. All sums go down the rows in one chain of fma, so the bits are those of one lane alone. The rows
// are read twice and written once; what is written elsewhere is not read before the next token, and goes past the caches.
template <int kVectors>
inline void delta_columns(const DeltaArgs& a, int64_t first, int lanes, bool passing) {
  const F32 decay = splat(a.decay), strength = splat(a.strength);
  F32 sums[kVectors];
  for (int i = 0; i < kVectors; ++i) sums[i] = splat(0);
  const auto at = [&](int64_t row, int i) { return row * a.value_dim + first + 16 * i; };
  for (int64_t row = 0; row < a.key_dim; ++row) {
    const F32 k = splat(a.k[row]);
    for (int i = 0; i < kVectors; ++i) sums[i] = fma(load_first(a.before + at(row, i), lanes) * decay, k, sums[i]);
  }
  F32 change[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    change[i] = (load_first(a.v + first + 16 * i, lanes) - sums[i]) * strength;
    sums[i] = splat(0);
  }
  for (int64_t row = 0; row < a.key_dim; ++row) {
    const F32 k = splat(a.k[row]), q = splat(a.q[row]);
    for (int i = 0; i < kVectors; ++i) {
      const F32 t = fma(change[i], k, load_first(a.before + at(row, i), lanes) * decay);
      put_state(a.after + at(row, i), t, lanes, passing);
      sums[i] = fma(t, q, sums[i]);
    }
  }
  for (int i = 0; i < kVectors; ++i) store_first(a.y + first + 16 * i, sums[i], lanes);
}

inline void delta_net(const DeltaArgs& a) {
  const bool passing = passes(a.before, a.after, a.value_dim);
  int64_t column = 0;
  for (; column + 128 <= a.value_dim; column += 128) delta_columns<8>(a, column, 16, passing);
  for (; column + 64 <= a.value_dim; column += 64) delta_columns<4>(a, column, 16, passing);
  for (; column < a.value_dim; column += 16) delta_columns<1>(a, column, lanes_left(column, a.value_dim), passing);
  if (passing) stream_end();
}
