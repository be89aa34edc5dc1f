// Attention of a tile of queries (rows of one sequence times the query heads of one KV head) over a paged cache.
//
// The cache is read in spans of 256 tokens: scores (lanes are tokens), their maximum, exponentials, the weighted sum of
// values (lanes are dimensions). Spans merge in ascending order. Scores and sums are products of small matrices, one
// block of queries at a time; a page becomes floats once for all queries of the tile. Every output is one chain of fma
// over its own tokens, so that no bit depends on the tile or on who computes a span. Formulas: docs/numerics.md.

struct Range {
  int begin, end;
};
inline Range overlap(Range a, Range b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

// The state of one query: sums of values [pad], then the maximum and the sum of exponentials; -1 says that it has seen
// no token yet.
inline int state_floats(int pad) { return pad + 16; }

struct Tile {
  const AttentionArgs& a;
  PageFormat format;
  int queries, pad, state_size;
  float* q;        // [head_dim][queries] for each block of queries
  float* weights;  // [queries][256]
  float* part;     // [queries] states of one span
  float* own;      // [queries] states of all spans, where the caller wants none
  float* page;     // keys or values of one page as floats
  Range* seen;     // [queries] tokens that each sees of the span, counted from its start
  bool direct;     // pages are read as they are: one block of queries is not worth a conversion

  int block_at(int i) const {  // blocks have equal sizes, as near as may be
    const int left = queries - i, blocks = (left + kProductRows - 1) / kProductRows;
    return (left + blocks - 1) / blocks;
  }
  bool halves() const { return direct && format.block_bytes == 2; }
  int element_bytes() const { return halves() ? 2 : 4; }
  template <int kQueryStride>
  void multiply(int n, const Product& p) const {
    if (halves())
      product_of<LoadF16, kQueryStride>(n, p);
    else
      product_of<LoadF32, kQueryStride>(n, p);
  }
  // Values of a page begin here, and take so many bytes.
  int values_at() const { return a.cache.value_of_key ? 0 : format.bytes(a.cache.head_dim); }
  int value_bytes() const { return format.bytes(a.cache.value_of_key ? a.cache.value_dim : pad); }
  const uint8_t* keys(const uint8_t* p) const { return unpacked(format.keys, p, a.cache.head_dim); }
  const uint8_t* values(const uint8_t* p) const {
    if (a.cache.value_of_key)
      return reinterpret_cast<const uint8_t*>(values_of_keys(format, p, a.cache.value_dim, page));
    return unpacked(format.values, p + values_at(), pad);
  }
  const uint8_t* unpacked(const float* (*unpack)(const uint8_t*, int, float*), const uint8_t* p, int dim) const {
    return direct ? p : reinterpret_cast<const uint8_t*>(unpack(p, dim, page));
  }
};

// Scores of the page whose tokens are `tokens` of the span.
inline void score_page(const Tile& t, Range tokens, const uint8_t* keys, const uint8_t* ahead, int ahead_bytes) {
  for (int i = 0, n; i < t.queries; i += n) {
    n = t.block_at(i);
    Range wanted = overlap(t.seen[i], tokens);
    for (int j = i + 1; j < i + n; ++j) {
      const Range seen = overlap(t.seen[j], tokens);
      if (seen.begin >= seen.end) continue;
      if (wanted.begin >= wanted.end) wanted = seen;
      wanted = {seen.begin < wanted.begin ? seen.begin : wanted.begin, seen.end > wanted.end ? seen.end : wanted.end};
    }
    if (wanted.begin >= wanted.end) continue;
    const int first = wanted.begin / 16 * 16;
    t.multiply<1>(n, {t.q + i * t.a.cache.head_dim, n, keys + (first - tokens.begin) * t.element_bytes(), kPageTokens,
                      t.a.cache.head_dim, pad16(wanted.end - first), t.weights + i * kSpanTokens + first, kSpanTokens,
                      true, ahead, i == 0 ? ahead_bytes : 0});
  }
}

// Adds the page's values times their weights. A token that a query does not see is left out, not multiplied by zero:
// the queries of a block go together where all see, alone before and after.
inline void add_values(const Tile& t, Range tokens, const uint8_t* values, const uint8_t* ahead, int ahead_bytes) {
  for (int i = 0, n; i < t.queries; i += n) {
    n = t.block_at(i);
    Range common = tokens;
    for (int j = i; j < i + n; ++j) common = overlap(common, t.seen[j]);
    const auto add = [&](int query, int count, Range r, int bytes) {
      if (r.begin >= r.end) return;
      t.multiply<kSpanTokens>(
          count,
          {t.weights + query * kSpanTokens + r.begin, 1, values + (r.begin - tokens.begin) * t.pad * t.element_bytes(),
           t.pad, r.end - r.begin, t.pad, t.part + query * t.state_size, t.state_size, false, ahead, bytes});
    };
    const bool whole = common.begin == tokens.begin && common.end == tokens.end, together = common.begin < common.end;
    for (int j = i; j < i + n && !whole; ++j) {
      const Range seen = overlap(t.seen[j], tokens);
      add(j, 1, together ? Range{seen.begin, common.begin} : seen, 0);
    }
    if (together) add(i, n, common, i == 0 ? ahead_bytes : 0);
    for (int j = i; j < i + n && together && !whole; ++j) add(j, 1, {common.end, overlap(t.seen[j], tokens).end}, 0);
  }
}

// s becomes cap * tanh(s * scale / cap).
inline void cap_scores(float* w, Range seen, float scale, float cap) {
  for (int t = seen.begin / 16 * 16; t < seen.end; t += 16)
    store(w + t, splat(cap) * tanh(load(w + t) * splat(scale) / splat(cap)));
}

// Scores become exponentials; returns their maximum and sum through m and l.
inline void exponentials(float* w, Range seen, float scale, float* m, float* l) {
  static const float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const F32 lowest = splat(-__builtin_inff());
  const int first = seen.begin / 16 * 16;
  F32 top = lowest, total = splat(0);
  for (int t = first; t < seen.end; t += 16) {
    F32 s = load(w + t) * splat(scale);
    if (t < seen.begin) s = where_less(load(kLane), splat(static_cast<float>(seen.begin - t)), lowest, s);
    if (t + 16 > seen.end) s = where_less(load(kLane), splat(static_cast<float>(seen.end - t)), s, lowest);
    store(w + t, s);
    top = max(top, s);
  }
  *m = max_lane(top);
  for (int t = first; t < seen.end; t += 16) {
    const F32 e = exp_nonpositive(load(w + t) - splat(*m));
    store(w + t, e);
    total = total + e;
  }
  *l = sum(total);
}

// Adds one more span to a query's state.
inline void merge_state(float* run, const float* part, int pad) {
  float *m = run + pad, *l = run + pad + 1;
  if (part[pad + 1] < 0) return;
  if (*l < 0) {
    memcpy(run, part, static_cast<size_t>(state_floats(pad)) * sizeof(float));
    return;
  }
  const float top = *m > part[pad] ? *m : part[pad];
  float lanes[16] = {*m - top, part[pad] - top};
  store(lanes, exp_nonpositive(load(lanes)));
  const float keep = lanes[0], add = lanes[1];
  *m = top;
  *l = __builtin_fmaf(part[pad + 1], add, *l * keep);
  for (int j = 0; j < pad; j += 16) store(run + j, fma(load(part + j), splat(add), load(run + j) * splat(keep)));
}

// Sets what each query sees of a span, and empties its state; returns what they see together.
inline Range see_span(const Tile& t, int span) {
  const int start = span * kSpanTokens;
  Range all = {kSpanTokens, 0};
  for (int i = 0; i < t.queries; ++i) {
    const int position = t.a.positions[i / t.a.heads], first = first_seen(position, t.a.window, t.a.chunk);
    const Range seen = overlap({first - start, t.a.last[i / t.a.heads] + 1 - start}, {0, kSpanTokens});
    t.seen[i] = seen;
    float* state = t.part + i * t.state_size;
    for (int j = 0; j < t.pad; ++j) state[j] = 0;
    state[t.pad + 1] = -1;
    if (seen.begin >= seen.end) continue;
    all = {seen.begin < all.begin ? seen.begin : all.begin, seen.end > all.end ? seen.end : all.end};
  }
  return all;
}

inline void weigh_span(const Tile& t) {
  for (int i = 0; i < t.queries; ++i) {
    if (t.seen[i].begin >= t.seen[i].end) continue;
    float *state = t.part + i * t.state_size + t.pad, *scores = t.weights + i * kSpanTokens;
    if (t.a.softcap != 0) cap_scores(scores, t.seen[i], t.a.scale, t.a.softcap);
    exponentials(scores, t.seen[i], t.a.softcap != 0 ? 1 : t.a.scale, state, state + 1);
  }
}

inline void attend_span(const Tile& t, int span) {
  const CacheView& c = t.a.cache;
  const int start = span * kSpanTokens;
  const Range all = see_span(t, span);
  if (all.begin >= all.end) return;
  const int first_page = all.begin / kPageTokens * kPageTokens;
  const int key_bytes = t.format.bytes(c.head_dim), values_at = t.values_at(), value_bytes = t.value_bytes();
  for (int p = first_page; p < all.end; p += kPageTokens) {
    const bool last = p + kPageTokens >= all.end;
    const uint8_t* ahead = last ? page_of(c, start + first_page) + values_at : page_of(c, start + p + kPageTokens);
    score_page(t, {p, p + kPageTokens}, t.keys(page_of(c, start + p)), ahead, last ? value_bytes : key_bytes);
  }
  weigh_span(t);
  const int newest = t.a.last[t.a.rows - 1];
  for (int p = first_page; p < all.end; p += kPageTokens) {
    const bool last = p + kPageTokens >= all.end;
    const uint8_t* page = page_of(c, start + p);
    const uint8_t* ahead = start + p + kPageTokens <= newest ? page_of(c, start + p + kPageTokens) : page;
    add_values(t, {p, p + kPageTokens}, t.values(page), last ? ahead : ahead + values_at,
               last ? key_bytes : value_bytes);
  }
}

// Adds the sink to the sum `l` of a query whose maximum is `m`; returns the factor of its sums of values.
inline float add_sink(float sink, float m, float* l) {
  const float top = m > sink ? m : sink;
  float lanes[16] = {m - top, sink - top};
  store(lanes, exp_nonpositive(load(lanes)));
  *l = *l * lanes[0] + lanes[1];
  return lanes[0];
}

// `a` has rows, heads, sinks, out and out_stride.
template <class Args>
inline void write_outputs(const float* states, int dim, const Args& a) {
  const int pad = pad16(dim);
  for (int i = 0; i < a.rows * a.heads; ++i) {
    const float* state = states + i * state_floats(pad);
    float* y = a.out + i / a.heads * a.out_stride + i % a.heads * dim;
    float l = state[pad + 1];
    const float keep = a.sinks ? add_sink(a.sinks[i % a.heads], state[pad], &l) : 1;
    for (int j = 0; j < dim; j += 16)
      store_first(y + j, load(state + j) * splat(keep) / splat(l), dim - j < 16 ? dim - j : 16);
  }
}

inline int64_t attention_scratch(int queries, int head_dim, int value_dim) {
  const int pad = pad16(value_dim), wide = head_dim > pad ? head_dim : pad;
  return int64_t{queries} * (head_dim + kSpanTokens + 2 * state_floats(pad) + 2) + wide * kPageTokens + 64;
}

inline Tile tile_of(const AttentionArgs& a) {
  const int queries = a.rows * a.heads, dim = a.cache.head_dim, pad = pad16(a.cache.value_dim);
  const int state_size = state_floats(pad);
  float *page = a.scratch, *weights = page + (dim > pad ? dim : pad) * kPageTokens;
  float *part = weights + queries * kSpanTokens, *own = part + queries * state_size, *q = own + queries * state_size;
  return {a,
          page_format(a.cache.type),
          queries,
          pad,
          state_size,
          q,
          weights,
          part,
          own,
          page,
          reinterpret_cast<Range*>(q + queries * dim),
          page_format(a.cache.type).block == 1 && queries <= kProductRows && !a.cache.value_of_key};
}

template <class AttendSpan>
inline void each_span(const Tile& t, const AttendSpan& attend) {
  const AttentionArgs& a = t.a;
  float* states = a.states ? a.states : t.own;
  for (int i = 0; i < t.queries; ++i) states[i * t.state_size + t.pad + 1] = -1;
  for (int span = a.first_span; span < a.end_span; ++span) {
    attend(span);
    for (int i = 0; i < t.queries; ++i) merge_state(states + i * t.state_size, t.part + i * t.state_size, t.pad);
  }
  if (!a.states) write_outputs(states, a.cache.value_dim, a);
}

inline void attention(const AttentionArgs& a) {
  const Tile t = tile_of(a);
  const int dim = a.cache.head_dim;
  for (int i = 0, n; i < t.queries; i += n) {
    n = t.block_at(i);
    for (int j = 0; j < n; ++j) {
      const float* x = a.q + (i + j) / a.heads * a.q_stride + (i + j) % a.heads * dim;
      for (int k = 0; k < dim; ++k) t.q[i * dim + k * n + j] = x[k];
    }
  }
  each_span(t, [&](int span) { attend_span(t, span); });
}

inline int64_t attention_states(int queries, int value_dim) {
  return int64_t{queries} * state_floats(pad16(value_dim));
}

inline void merge_attention(const MergeArgs& a) {
  const int pad = pad16(a.value_dim), queries = a.rows * a.heads;
  for (int span = 1; span <= a.spans; ++span)
    for (int i = 0; i < queries; ++i)
      merge_state(a.states + i * state_floats(pad), a.states + span * a.span_stride + i * state_floats(pad), pad);
  if (a.out) write_outputs(a.states, a.value_dim, a);
}
