// Attention: rotate the new queries and keys, put keys and values into the cache, then attend tile by tile and KV head by
// KV head. A tile is a few rows of one sequence. Where tiles are few and the context long, each span of 256 tokens is a
// task of its own, and the spans' states are merged afterwards in the order in which one worker would have merged them.
#include <algorithm>

#include "engine/cache_pages.h"
#include "engine/executor.h"

namespace llamaq {

constexpr int kTileQueries = 48;    // rows times heads that share one conversion of a page to floats
constexpr int kTasksPerWorker = 8;  // with fewer, the end of a phase would wait for the slowest

// Sets the rows of a tile; returns the most queries in one.
int Executor::size_tiles() {
  int group = 1;
  for (const Op& op : plan_.ops)
    if (const auto attention = std::get_if<AttentionOp>(&op))
      group = std::max(group, attention->heads / attention->kv_heads);
  tile_rows_ = std::min(max_rows_, std::max(1, kTileQueries / group));
  return tile_rows_ * group;
}

void Executor::lay_tiles(const Step& step) {
  tiles_.clear();
  tiles_apart_ = true;
  std::vector<bool> known(static_cast<size_t>(step.n_sequences));
  for (int row = 0; row < step.rows; ++row) {
    if (row && step.sequences[row] == step.sequences[row - 1] && tiles_.back().rows < tile_rows_) {
      ++tiles_.back().rows;
      continue;
    }
    const auto sequence = static_cast<size_t>(step.sequences[row]);
    tiles_apart_ = tiles_apart_ && !known[sequence];
    known[sequence] = true;
    tiles_.push_back({row, 1});
  }
  std::stable_sort(tiles_.begin(), tiles_.end(),
                   [&](const Tile& a, const Tile& b) { return step.positions[a.first] > step.positions[b.first]; });
}

CacheView Executor::cache_view(const Step& step, int layer, int head, int sequence) const {
  const int64_t bytes = page_bytes(plan_.head_dim, step.cache_type);
  const int64_t layer_pages = int64_t{layer} * step.n_pages;
  return {step.cache + (layer_pages * plan_.kv_heads + head) * bytes,
          bytes * plan_.kv_heads,
          step.pages + int64_t{sequence} * step.pages_per_sequence,
          step.cache_type,
          plan_.head_dim,
          plan_.head_dim};
}

// Rotates and caches what one KV head and its query heads have of a tile.
void Executor::put(const AttentionOp& op, const Call& call, const Tile& tile, int head) {
  const int group = op.heads / op.kv_heads, dim = op.head_dim, kv_cols = op.kv_heads * dim;
  float* q = slot_data(op.q) + int64_t{tile.first} * op.heads * dim + int64_t{head} * group * dim;
  float* k = slot_data(op.k) + int64_t{tile.first} * kv_cols + int64_t{head} * dim;
  const float* v = slot_data(op.v) + int64_t{tile.first} * kv_cols + int64_t{head} * dim;
  if (op.rope >= 0) {
    const auto r = static_cast<size_t>(op.rope);
    const Rope& rope = plan_.ropes[r];
    const int pairs = static_cast<int>(rope.frequencies.size());
    for (int i = 0; i < tile.rows; ++i) {
      const float* cos = rope_cos_[r] + int64_t{tile.first + i} * pairs;
      const float* sin = rope_sin_[r] + int64_t{tile.first + i} * pairs;
      kernels_.rope(q + int64_t{i} * op.heads * dim, group, dim, pairs, rope.neighbours, cos, sin);
      kernels_.rope(k + int64_t{i} * kv_cols, 1, dim, pairs, rope.neighbours, cos, sin);
    }
  }
  const Step& step = call.step;
  kernels_.store_kv({cache_view(step, op.layer, head, step.sequences[tile.first]), step.positions + tile.first,
                     tile.rows, k, v, kv_cols});
}

AttentionArgs Executor::attention_args(const AttentionOp& op, const Call& call, const Tile& tile, int head) const {
  const Step& step = call.step;
  const int group = op.heads / op.kv_heads;
  const int64_t cols = int64_t{op.heads} * op.head_dim;
  const int64_t first = tile.first * cols + int64_t{head} * group * op.head_dim;
  const int32_t* positions = step.positions + tile.first;
  return {cache_view(step, op.layer, head, step.sequences[tile.first]),
          slot_data(op.q) + first,
          cols,
          positions,
          tile.rows,
          group,
          op.window,
          op.chunk,
          op.scale,
          first_seen(positions[0], op.window, op.chunk) / kSpanTokens,
          positions[tile.rows - 1] / kSpanTokens + 1,
          slot_data(op.out) + first,
          cols,
          nullptr,
          scratch_[static_cast<size_t>(call.worker.id())].attention};
}

void Executor::run(const AttentionOp& op, const Call& call) {
  const int tasks = static_cast<int>(tiles_.size()) * op.kv_heads;
  const auto tile = [&](int task) -> const Tile& { return tiles_[static_cast<size_t>(task / op.kv_heads)]; };
  int spans = 0, rows = 1;
  if (call.worker.count() > 1 && tasks < kTasksPerWorker * call.worker.count())
    for (int task = 0; task < tasks; task += op.kv_heads) {
      const AttentionArgs a = attention_args(op, call, tile(task), 0);
      spans = std::max(spans, a.end_span - a.first_span);
      rows = std::max(rows, a.rows);
    }
  const int64_t states = kernels_.attention_states(rows * (op.heads / op.kv_heads), op.head_dim);
  const int slots = static_cast<int>(span_floats_ / (tasks * states));  // spans of every task that there is room for
  const bool split = spans > 1 && slots > 2;

  // A tile that holds all rows of its sequence reads nothing that another one writes.
  const bool apart = tiles_apart_ && !split;
  if (!apart) {
    for (int c; (c = call.worker.next_chunk(tasks)) >= 0;) put(op, call, tile(c), c % op.kv_heads);
    call.worker.sync();
  }
  const auto attend = fast_ && call.rows > kFastRows ? kernels_.fast_attention : kernels_.attention;
  if (split) return attend_in_spans(op, call, attend, spans, slots, states);
  for (int c; (c = call.worker.next_chunk(tasks)) >= 0;) {
    if (apart) put(op, call, tile(c), c % op.kv_heads);
    attend(attention_args(op, call, tile(c), c % op.kv_heads));
  }
}

// Each task has `slots` states in a row; the first holds what is merged so far once there is such a thing.
void Executor::attend_in_spans(const AttentionOp& op, const Call& call, Attend attend, int spans, int slots,
                               int64_t states) {
  const int tasks = static_cast<int>(tiles_.size()) * op.kv_heads;
  const auto args = [&](int task) {
    return attention_args(op, call, tiles_[static_cast<size_t>(task / op.kv_heads)], task % op.kv_heads);
  };
  for (int first = 0, count; first < spans; first += count) {
    const int merged = first ? 1 : 0;
    count = std::min(slots - merged, spans - first);
    for (int c; (c = call.worker.next_chunk(tasks * count)) >= 0;) {
      AttentionArgs a = args(c / count);
      a.first_span += first + c % count;
      a.end_span = std::min(a.end_span, a.first_span + 1);
      a.states = spans_ + (int64_t{c / count} * slots + merged + c % count) * states;
      attend(a);
    }
    call.worker.sync();
    const bool last = first + count >= spans;
    for (int task; (task = call.worker.next_chunk(tasks)) >= 0;) {
      const AttentionArgs a = args(task);
      kernels_.merge_attention({spans_ + int64_t{task} * slots * states, static_cast<ptrdiff_t>(states),
                                merged + count - 1, a.rows, a.heads, a.cache.value_dim, last ? a.out : nullptr,
                                a.out_stride});
    }
    if (!last) call.worker.sync();
  }
}

}  // namespace llamaq
