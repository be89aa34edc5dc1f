// Attention of prompts by tiles of bfloat16, for numerics "fast".
//
// As in generic/attention.h, span by span, with the same exponentials; but queries, keys, exponentials and values are
// rounded to bfloat16 for the two products, and a token that a query does not see is multiplied by zero.

constexpr int kSpanPages = kSpanTokens / kPageTokens;
static_assert(kPageTokens == 32, "the tokens of a page are a block");

struct Bf16Attention {
  const Tile& t;
  int key_blocks;      // blocks of 32 dimensions
  Bf16Block* queries;  // groups of 16
  Bf16Block* weights;  // groups of 16, a block for each page of the span
  Bf16Tile* keys;      // one page: [2] times 16 tokens, [key_blocks]
  Bf16Tile* values;    // a span: [pad / 16][kSpanPages]

  explicit Bf16Attention(const Tile& tile) : t(tile), key_blocks((tile.a.cache.head_dim + 31) / 32) {
    const int rows = (t.queries + kGroupRows - 1) / kGroupRows * kGroupRows;
    float* from = t.a.scratch + attention_scratch(t.queries, t.a.cache.head_dim, t.a.cache.value_dim) / 16 * 16 + 16;
    queries = reinterpret_cast<Bf16Block*>(from);
    weights = queries + rows * key_blocks;
    keys = reinterpret_cast<Bf16Tile*>(weights + rows * kSpanPages);
    values = keys + 2 * key_blocks;
    memset(queries, 0, static_cast<size_t>(reinterpret_cast<uint8_t*>(keys) - reinterpret_cast<uint8_t*>(queries)));
    const AttentionArgs& a = t.a;
    for (int i = 0; i < t.queries; ++i)
      bf16_row(a.q + i / a.heads * a.q_stride + i % a.heads * a.cache.head_dim, a.cache.head_dim,
               queries + i / kGroupRows * kGroupRows * key_blocks + i % kGroupRows);
  }

  void put_keys(const float* page) const {  // [head_dim][32 tokens]
    const auto row = [&](int j, int half) {
      return j < t.a.cache.head_dim ? plain_nan(load(page + j * kPageTokens + 16 * half)) : splat(0);
    };
    for (int half = 0; half < 2; ++half)
      for (int pair = 0; pair < 16 * key_blocks; ++pair)
        store_u8(keys[half * key_blocks + pair / 16].pairs[pair % 16],
                 bf16_pair(row(2 * pair, half), row(2 * pair + 1, half)));
  }

  // Tokens that nobody sees may hold anything: they become zeros.
  void put_values(const float* page, int index, Range tokens) const {  // [32 tokens][pad]
    for (int j = 0; j < t.pad; j += 16) {
      const auto row = [&](int token) {
        const bool known = token >= tokens.begin && token < tokens.end;
        return known ? plain_nan(load(page + token * t.pad + j)) : splat(0);
      };
      for (int pair = 0; pair < 16; ++pair)
        store_u8(values[j / 16 * kSpanPages + index].pairs[pair], bf16_pair(row(2 * pair), row(2 * pair + 1)));
    }
  }

  // Exponentials of a page; those of 16 tokens are set where the query sees one of them.
  void put_weights(int first_page, int index) const {
    for (int i = 0; i < t.queries; ++i) {
      const Range seen = t.seen[i];
      float row[kPageTokens] = {};
      for (int half = 0; half < kPageTokens; half += 16) {
        const int token = first_page + index * kPageTokens + half;
        if (seen.begin < seen.end && token + 16 > seen.begin && token < seen.end)
          store(row + half, load(t.weights + i * kSpanTokens + token));
      }
      bf16_row(row, kPageTokens, weights + (i / kGroupRows * kSpanPages + index) * kGroupRows + i % kGroupRows);
    }
  }

  void attend_span(int span) const {
    const CacheView& c = t.a.cache;
    const int start = span * kSpanTokens;
    const Range all = see_span(t, span);
    if (all.begin >= all.end) return;
    const int first = all.begin / kPageTokens * kPageTokens, pages = (all.end - first + kPageTokens - 1) / kPageTokens;
    const auto page = [&](int i) { return page_of(c, start + first + i * kPageTokens); };
    for (int i = 0; i < pages; ++i) {
      put_keys(t.format.keys(page(i), c.head_dim, t.page));
      multiply({queries,
                key_blocks,
                {keys, keys + key_blocks},
                {16, 16},
                key_blocks,
                t.queries,
                true,
                t.weights + first + i * kPageTokens,
                kSpanTokens});
    }
    weigh_span(t);
    for (int i = 0; i < pages; ++i) {
      const int token = first + i * kPageTokens;
      put_weights(first, i);
      put_values(reinterpret_cast<const float*>(t.values(page(i))), i, {all.begin - token, all.end - token});
    }
    for (int j = 0; j < t.pad; j += 32) {
      const Bf16Tile* columns = values + j / 16 * kSpanPages;
      multiply({weights,
                kSpanPages,
                {columns, columns + kSpanPages},
                {16, t.pad - j > 16 ? 16 : 0},
                pages,
                t.queries,
                true,
                t.part + j,
                t.state_size});
    }
  }
};

// A few queries would leave the tiles empty.
inline void fast_attention(const AttentionArgs& a) {
  if (a.rows * a.heads < kGroupRows) return llamaq_table_avx512.attention(a);
  const Tile t = tile_of(a);
  const Bf16Attention fast(t);
  configure_tiles(kFullTiles);
  each_span(t, [&](int span) { fast.attend_span(span); });
  release_tiles();
}

inline int64_t fast_attention_scratch(int queries, int head_dim, int value_dim) {
  const int64_t rows = (queries + kGroupRows - 1) / kGroupRows * kGroupRows, blocks = (head_dim + 31) / 32;
  const int64_t lines = rows * (blocks + kSpanPages) + 16 * (2 * blocks + pad16(value_dim) / 16 * kSpanPages);
  return attention_scratch(queries, head_dim, value_dim) + 16 + 16 * lines;
}
