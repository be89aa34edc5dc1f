// bidirectional_attention: the rows of a sequence see each other, as encoders want it. Nothing outlives the step: a worker
// lays the keys and values of one KV head of one text into pages of its own and attends as if each row came last.
#include <algorithm>
#include <numeric>

#include "engine/cache_pages.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct BidirectionalAttention final : Op {
  int q, k, v, out, heads, kv_heads, dim;
  float scale;
  int rope;
  bool by_time;                   // rows see those of their own time alone, which stand together
  int texts = 0;                  // the tiles that hold all rows of a sequence, or of a time in it
  std::vector<int32_t> counting;  // 0, 1, 2, …

  explicit BidirectionalAttention(Attributes& a)
      : q(a.integers("ins", 3)[0]),
        k(a.integers("ins", 3)[1]),
        v(a.integers("ins", 3)[2]),
        out(a.integers("outs", 1)[0]),
        heads(a.integer("heads")),
        kv_heads(a.integer("kv_heads")),
        dim(a.integer("head_dim")),
        scale(a.number("scale")),
        rope(a.integer("rope", -1)),
        by_time(a.integer("by_time") != 0) {}

  void check(Resources& r) override {
    if (kv_heads <= 0 || heads <= 0 || heads % kv_heads) throw Error("heads must be a multiple of KV heads");
    if (dim <= 0 || heads * dim > r.cols(q) || heads * dim > r.cols(out) || kv_heads * dim > r.cols(k) ||
        kv_heads * dim > r.cols(v))
      throw Error("heads times head dimension exceeds a slot");
    if (rope >= static_cast<int>(r.rotations.size())) throw Error("no such rope");
    if (rope >= 0 && 2 * r.rotations[static_cast<size_t>(rope)].pairs() > dim)
      throw Error("the rope turns more dimensions than a head has");
    texts = r.tiles_of(r.max_rows, by_time);
    counting.resize(static_cast<size_t>(r.max_rows));
    std::iota(counting.begin(), counting.end(), 0);
  }

  void check_step(const Step& step) const override {
    for (int row = 0; row < step.rows; ++row) {
      const bool goes_on = row && step.sequences[row] == step.sequences[row - 1];
      if (step.positions[row] != (goes_on ? step.positions[row - 1] + 1 : 0))
        throw Error("step row " + std::to_string(row) + ": an encoder reads whole texts, each from position 0 on");
    }
    if (!step.seen) return;
    if (by_time) throw Error("rows see their own time alone, so a step cannot say what they see");
    std::vector<int> rows(static_cast<size_t>(step.n_sequences));
    for (int row = 0; row < step.rows; ++row) ++rows[static_cast<size_t>(step.sequences[row])];
    for (int row = 0; row < step.rows; ++row)
      if (step.seen[2 * row] || step.seen[2 * row + 1] < 1 ||
          step.seen[2 * row + 1] > rows[static_cast<size_t>(step.sequences[row])])
        throw Error("step row " + std::to_string(row) + ": it sees the first rows of its text, one at least");
  }

  int group() const { return heads / kv_heads; }
  int tile_rows() const { return std::max(1, kTileQueries / group()); }
  static int pages(const Resources& r) { return (r.max_rows + kPageTokens - 1) / kPageTokens; }
  int64_t cache_bytes(const Resources& r) const { return Scratch::lines(page_bytes(dim, dim, Format::F32) * pages(r)); }

  // Pages of keys and values, then their numbers, then positions, then what the kernel needs.
  Scratch scratch(const Resources& r) const override {
    return {0, cache_bytes(r) + Scratch::lines(int64_t{4} * pages(r)) + Scratch::lines(int64_t{4} * tile_rows()) +
                   Scratch::lines(4 * r.kernels.attention_scratch(tile_rows() * group(), dim, dim))};
  }

  // How many of the first rows of a text one of its rows sees.
  static int seen_rows(const Step& step, const Tile& text, int row) {
    return step.seen ? step.seen[2 * (text.first + row) + 1] : text.rows;
  }

  void rotate(const Call& call) const {
    const Resources& r = call.r;
    const Rotation& turn = r.rotations[static_cast<size_t>(rope)];
    const int pairs = turn.pairs();
    for (int row; (row = call.worker.next_chunk(call.rows)) >= 0;) {
      const float *cos = turn.cos + int64_t{row} * pairs, *sin = turn.sin + int64_t{row} * pairs;
      for (const auto& [slot, count] : {std::pair{q, heads}, std::pair{k, kv_heads}})
        r.kernels.rope(r.slot(slot) + int64_t{row} * count * dim, count, dim, pairs, turn.rope.neighbours, cos, sin);
    }
    call.worker.sync();
  }

  // Some tiles of a text, for one KV head.
  void attend(const Call& call, const Tile& text, int head, int begin, int end) const {
    const Resources& r = call.r;
    int32_t* numbers = reinterpret_cast<int32_t*>(call.own + cache_bytes(r));
    int32_t* last = numbers + Scratch::lines(int64_t{4} * pages(r)) / 4;
    float* scratch = reinterpret_cast<float*>(last) + Scratch::lines(int64_t{4} * tile_rows()) / 4;
    for (int i = 0; i < pages(r); ++i) numbers[i] = i;
    const CacheView view = {call.own, page_bytes(dim, dim, Format::F32), numbers, Format::F32, dim, dim, false};
    const int64_t q_cols = int64_t{heads} * dim, kv_cols = int64_t{kv_heads} * dim;
    const int64_t first = text.first * kv_cols + int64_t{head} * dim;
    r.kernels.store_kv({view, counting.data(), text.rows, r.slot(k) + first, r.slot(v) + first, kv_cols, kv_cols});
    const auto kernel = r.fast && call.rows > kFastRows ? r.kernels.fast_attention : r.kernels.attention;
    const int most = std::min(end * tile_rows(), text.rows);
    for (int row = begin * tile_rows(), rows; row < most; row += rows) {
      // Rows of a tile that see equally far go together.
      const int seen = seen_rows(call.step, text, row), room = std::min(tile_rows() - row % tile_rows(), most - row);
      for (rows = 1; rows < room && seen_rows(call.step, text, row + rows) == seen;) ++rows;
      std::fill_n(last, rows, seen - 1);
      const int64_t at = (text.first + row) * q_cols + int64_t{head} * group() * dim;
      kernel({view, r.slot(q) + at, q_cols, last, last, rows, group(), 0, 0, scale, 0, nullptr, 0,
              (seen - 1) / kSpanTokens + 1, r.slot(out) + at, q_cols, nullptr, scratch});
    }
  }

  static constexpr int kTasksPerWorker = 4;  // where there are fewer, texts are cut, and their keys laid for each part

  void run(const Call& call) const override {
    if (rope >= 0) rotate(call);
    const Tiles& laid = call.r.tiles[static_cast<size_t>(texts)];
    const int tasks = laid.count() * kv_heads, wanted = kTasksPerWorker * call.worker.count();
    const int parts = (wanted + tasks - 1) / tasks;
    for (int c; (c = call.worker.next_chunk(tasks * parts)) >= 0;) {
      const Tile& text = laid[c / parts / kv_heads];
      const int tiles = (text.rows + tile_rows() - 1) / tile_rows();
      const int begin = tiles * (c % parts) / parts, end = tiles * (c % parts + 1) / parts;
      if (begin < end) attend(call, text, c / parts % kv_heads, begin, end);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_bidirectional_attention(Attributes& a) { return std::make_unique<BidirectionalAttention>(a); }

}  // namespace llamaq
