// Attention of one query row over one KV head, for all query heads that share it.
//
// The cache is read in spans of 256 tokens: scores (lanes are tokens), their maximum, exponentials, the weighted sum
// of values (lanes are dimensions). Spans merge in ascending order. No result depends on how rows are grouped or on
// who computes a span. Formulas: docs/numerics.md.

struct CacheF16 {
  static constexpr int kBytes = 2;
  static F32 at(const uint8_t* p) { return load_f16(p); }
  static void put(uint8_t* p, F32 v) { store_f16(p, v); }
  static void put1(uint8_t* p, float v) { store_u16(p, f32_to_f16(v)); }
};
struct CacheF32 {
  static constexpr int kBytes = 4;
  static F32 at(const uint8_t* p) { return from_bits(load_i32(p)); }
  static void put(uint8_t* p, F32 v) { store(reinterpret_cast<float*>(p), v); }
  static void put1(uint8_t* p, float v) { memcpy(p, &v, 4); }
};

inline int pad16(int n) { return (n + 15) / 16 * 16; }
inline uint8_t* page_of(const CacheView& c, int token) { return c.base + c.pages[token / kPageTokens] * c.page_stride; }
inline int64_t value_offset(const CacheView& c, int bytes) {
  return static_cast<int64_t>(c.head_dim) * kPageTokens * bytes;
}

template <class T>
inline void store_kv_as(const CacheView& c, int token, const float* k, const float* v) {
  uint8_t* page = page_of(c, token);
  const int slot = token % kPageTokens;
  for (int j = 0; j < c.head_dim; ++j) T::put1(page + (j * kPageTokens + slot) * T::kBytes, k[j]);
  uint8_t* values = page + value_offset(c, T::kBytes) + slot * pad16(c.value_dim) * T::kBytes;
  for (int j = 0; j < c.value_dim; j += 16)
    T::put(values + j * T::kBytes, load_first(v + j, c.value_dim - j < 16 ? c.value_dim - j : 16));
}

inline void store_kv(const CacheView& c, int token, const float* k, const float* v) {
  if (c.f16)
    store_kv_as<CacheF16>(c, token, k, v);
  else
    store_kv_as<CacheF32>(c, token, k, v);
}

constexpr int kHeadTile = 4;  // query heads that share one reading of K and V

// weights[h][t] = exp(score - max) for the tokens of one span; returns max and sum through m, l.
template <class T, int H>
inline void span_weights(const AttentionArgs& a, const float* q, int first, int count, float* weights, float* m,
                         float* l) {
  const CacheView& c = a.cache;
  F32 top[H], total[H];
  for (int h = 0; h < H; ++h) top[h] = splat(-__builtin_inff()), total[h] = splat(0);
  for (int t = 0; t < count; t += 16) {
    const uint8_t* keys = page_of(c, first + t) + (first + t) % kPageTokens * T::kBytes;
    F32 s[H];
    for (int h = 0; h < H; ++h) s[h] = splat(0);
    for (int j = 0; j < c.head_dim; ++j) {
      const F32 k = T::at(keys + j * kPageTokens * T::kBytes);
      for (int h = 0; h < H; ++h) s[h] = fma(splat(q[h * c.head_dim + j]), k, s[h]);
    }
    for (int h = 0; h < H; ++h) {
      float* w = weights + h * kSpanTokens + t;
      store(w, s[h] * splat(a.scale));
      for (int i = count - t; i < 16; ++i) w[i] = -__builtin_inff();  // beyond the query's own token
      top[h] = max(top[h], load(w));
    }
  }
  for (int h = 0; h < H; ++h) {
    m[h] = max_lane(top[h]);
    for (int t = 0; t < count; t += 16) {
      float* w = weights + h * kSpanTokens + t;
      const F32 e = exp(load(w) - splat(m[h]));
      store(w, e);
      total[h] = total[h] + e;
    }
    l[h] = sum(total[h]);
  }
}

// out[h][j] = sum over the span's tokens of weights[h][t] * v[t][j]
template <class T, int H>
inline void span_values(const AttentionArgs& a, int first, int count, const float* weights, float* out) {
  const CacheView& c = a.cache;
  const int pad = pad16(c.value_dim);
  for (int j = 0; j < pad; j += 16) {
    F32 o[H];
    for (int h = 0; h < H; ++h) o[h] = splat(0);
    for (int t = 0; t < count;) {
      const int page_end = t + kPageTokens < count ? t + kPageTokens : count;
      const uint8_t* v = page_of(c, first + t) + value_offset(c, T::kBytes) + j * T::kBytes;
      for (; t < page_end; ++t, v += pad * T::kBytes) {
        const F32 value = T::at(v);
        for (int h = 0; h < H; ++h) o[h] = fma(splat(weights[h * kSpanTokens + t]), value, o[h]);
      }
    }
    for (int h = 0; h < H; ++h) store(out + h * pad + j, o[h]);
  }
}

inline float exp1(float x) {
  float lanes[16];
  store(lanes, exp(splat(x)));
  return lanes[0];
}

// Merges one more span (m, l, o) into the running (m, l, o) of a head.
inline void merge_span(float m, float l, const float* o, float* run_m, float* run_l, float* run_o, int dims) {
  const float top = *run_m > m ? *run_m : m;
  const float keep = exp1(*run_m - top), add = exp1(m - top);
  *run_m = top;
  *run_l = __builtin_fmaf(l, add, *run_l * keep);
  for (int j = 0; j < dims; ++j) run_o[j] = __builtin_fmaf(o[j], add, run_o[j] * keep);
}

template <class T, int H>
inline void attend(const AttentionArgs& a, const float* q, float* out) {
  const int pad = pad16(a.cache.value_dim);
  float *weights = a.scratch, *span_out = weights + H * kSpanTokens, *run_out = span_out + H * pad;
  float m[H], l[H], run_m[H] = {}, run_l[H] = {};
  for (int first = 0; first < a.tokens; first += kSpanTokens) {
    const int count = a.tokens - first < kSpanTokens ? a.tokens - first : kSpanTokens;
    span_weights<T, H>(a, q, first, count, weights, m, l);
    span_values<T, H>(a, first, count, weights, first ? span_out : run_out);
    for (int h = 0; h < H; ++h) {
      if (first)
        merge_span(m[h], l[h], span_out + h * pad, &run_m[h], &run_l[h], run_out + h * pad, pad);
      else
        run_m[h] = m[h], run_l[h] = l[h];
    }
  }
  for (int h = 0; h < H; ++h)
    for (int j = 0; j < a.cache.value_dim; ++j) out[h * a.cache.value_dim + j] = run_out[h * pad + j] / run_l[h];
}

template <class T>
inline void attention_as(const AttentionArgs& a) {
  const int dim = a.cache.head_dim, value_dim = a.cache.value_dim;
  int h = 0;
  for (; h + kHeadTile <= a.heads; h += kHeadTile) attend<T, kHeadTile>(a, a.q + h * dim, a.out + h * value_dim);
  switch (a.heads - h) {
    case 1: attend<T, 1>(a, a.q + h * dim, a.out + h * value_dim); break;
    case 2: attend<T, 2>(a, a.q + h * dim, a.out + h * value_dim); break;
    case 3: attend<T, 3>(a, a.q + h * dim, a.out + h * value_dim); break;
  }
}

inline void attention(const AttentionArgs& a) {
  if (a.cache.f16)
    attention_as<CacheF16>(a);
  else
    attention_as<CacheF32>(a);
}

inline int64_t attention_scratch(int value_dim) { return kHeadTile * (kSpanTokens + 2 * pad16(value_dim)); }
