// cross_attention: attention of rows to the states of pictures, whose keys and values the step brings as pages. A row sees
// neighbouring pictures of the step one after the other; where it sees none, its result is zero.
#include <algorithm>

#include "engine/cache_pages.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct CrossAttention final : Op {
  int q, out, layer, heads, kv_heads, dim;
  float scale;
  int tiles = 0;

  explicit CrossAttention(Attributes& a)
      : q(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        layer(a.integer("layer")),
        heads(a.integer("heads")),
        kv_heads(a.integer("kv_heads")),
        dim(a.integer("head_dim")),
        scale(a.number("scale")) {}

  void check(Resources& r) override {
    if (kv_heads <= 0 || heads <= 0 || heads % kv_heads) throw Error("heads must be a multiple of KV heads");
    if (layer < 0 || dim <= 0 || heads * dim > r.cols(q) || heads * dim > r.cols(out))
      throw Error("heads times head dimension exceeds a slot");
    tiles = r.tiles_of(std::min(r.max_rows, std::max(1, kTileQueries / group())));
  }

  void check_step(const Step& step) const override {
    for (const Picture& p : step.pictures)
      if (layer >= p.layers || kv_heads != p.kv_heads || p.page_bytes != page_bytes(dim, dim, p.type) || p.count < 1 ||
          p.count > p.n_pages * kPageTokens || p.n_pages > static_cast<int>(step.page_numbers.size()))
        throw Error("a picture of the step does not fit the model");
    for (int row = 0; step.seen && row < step.rows; ++row)
      if (step.seen[2 * row] < 0 || step.seen[2 * row] > step.seen[2 * row + 1] ||
          step.seen[2 * row + 1] > static_cast<int>(step.pictures.size()))
        throw Error("step row " + std::to_string(row) + ": it sees pictures that the step does not have");
  }

  int group() const { return heads / kv_heads; }
  int most_queries(const Resources& r) const { return r.tiles[static_cast<size_t>(tiles)].most_rows() * group(); }
  int64_t state_floats(const Resources& r) const { return r.kernels.attention_states(most_queries(r), dim); }

  // Last positions, the states of what was seen and of one more picture, then what the kernel needs.
  Scratch scratch(const Resources& r) const override {
    return {0, Scratch::lines(int64_t{4} * most_queries(r)) + Scratch::lines(8 * state_floats(r)) +
                   Scratch::lines(4 * r.kernels.attention_scratch(most_queries(r), dim, dim))};
  }

  // Rows that see the same pictures, for one KV head.
  void attend(const Call& call, int first, int rows, int head) const {
    const Resources& r = call.r;
    const Step& step = call.step;
    const int64_t cols = int64_t{heads} * dim, at = first * cols + int64_t{head} * group() * dim;
    float* y = r.slot(out) + at;
    const int begin = step.seen ? step.seen[2 * first] : 0, end = step.seen ? step.seen[2 * first + 1] : 0;
    for (int i = 0; begin == end && i < rows; ++i) std::fill_n(y + i * cols, group() * dim, 0.0f);
    int32_t* last = reinterpret_cast<int32_t*>(call.own);
    float* states = reinterpret_cast<float*>(call.own + Scratch::lines(int64_t{4} * most_queries(r)));
    float* scratch = states + Scratch::lines(8 * state_floats(r)) / 4;
    const int64_t floats = r.kernels.attention_states(rows * group(), dim);
    const auto kernel = r.fast && call.rows > kFastRows ? r.kernels.fast_attention : r.kernels.attention;
    for (int i = begin; i < end; ++i) {
      const Picture& p = step.pictures[static_cast<size_t>(i)];
      uint8_t* pages = const_cast<uint8_t*>(p.pages) + (int64_t{layer} * p.n_pages * kv_heads + head) * p.page_bytes;
      std::fill_n(last, rows, p.count - 1);
      float* own = end - begin == 1 ? nullptr : states + (i > begin ? floats : 0);
      kernel({{pages, p.page_bytes * kv_heads, step.page_numbers.data(), p.type, dim, dim, false},
              r.slot(q) + at,
              cols,
              last,
              last,
              rows,
              group(),
              0,
              0,
              scale,
              0,
              nullptr,
              0,
              (p.count - 1) / kSpanTokens + 1,
              y,
              cols,
              own,
              scratch});
      if (i > begin)
        r.kernels.merge_attention(
            {states, static_cast<ptrdiff_t>(floats), 1, rows, group(), dim, nullptr, i + 1 == end ? y : nullptr, cols});
    }
  }

  void run(const Call& call) const override {
    const Tiles& laid = call.r.tiles[static_cast<size_t>(tiles)];
    const int32_t* seen = call.step.seen;
    for (int c; (c = call.worker.next_chunk(laid.count() * kv_heads)) >= 0;) {
      const Tile& tile = laid[c / kv_heads];
      for (int first = tile.first, end = first + tile.rows, rows; first < end; first += rows) {
        rows = 1;
        while (first + rows < end &&
               (!seen || std::equal(seen + 2 * first, seen + 2 * first + 2, seen + 2 * (first + rows))))
          ++rows;
        attend(call, first, rows, c % kv_heads);
      }
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_cross_attention(Attributes& a) { return std::make_unique<CrossAttention>(a); }

}  // namespace llamaq
