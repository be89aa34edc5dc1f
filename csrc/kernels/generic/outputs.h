// Sixteen weight rows are sixteen outputs; in the last group some of them may be missing.

inline int lanes_of(const MatmulArgs& a, int64_t row) { return a.end - row < 16 ? static_cast<int>(a.end - row) : 16; }

inline F32 load_first(const float* p, int count) {
  if (count == 16) return load(p);
  float lanes[16] = {};
  for (int i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}

inline void store_first(float* p, F32 a, int count) {
  if (count == 16) return store(p, a);
  float lanes[16];
  store(lanes, a);
  for (int i = 0; i < count; ++i) p[i] = lanes[i];
}

template <class W>
inline int64_t row_size_of(const MatmulArgs& a) {
  return a.cols / W::kLayout.block * W::kLayout.block_bytes;
}
