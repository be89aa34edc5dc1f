// attention: norm and rotate the new queries and keys, put keys and values into the cache, then attend tile by tile and KV
// head by KV head. A tile is a few rows of one sequence. Where tiles are few and the context long, each span of 256 tokens is a
// task of its own, and the spans' states are merged afterwards in the order in which one worker would have merged them.
#include <algorithm>

#include "engine/cache_pages.h"
#include "engine/ops/ops.h"
#include "sampling/elementary.h"

namespace llamaq {

namespace {

constexpr int kSpanBytes = 1 << 17;  // bytes of each worker: states of spans before they are merged

// A norm of each head, before the rope or after it.
struct HeadNorm {
  bool present, per_head = false, layer = false, after_rope = false;
  int weight = -1;  // none: ones
  float eps = 0;
  std::vector<float> ones;

  HeadNorm(Attributes& a, const std::string& name) : present(a.integer(name + "_layer", -1) >= 0) {
    if (!present) return;
    weight = a.integer(name, -1);
    eps = a.number(name + "_eps");
    layer = a.integer(name + "_layer") != 0;
    after_rope = a.integer(name + "_after_rope") != 0;
  }

  void check(const Resources& r, int heads, int dim) {
    if (!present) return;
    ones.assign(static_cast<size_t>(dim), 1.0f);
    if (weight < 0) return;
    per_head = heads > 1 && r.checked_weight(weight).cols != dim;
    r.check_vector(weight, per_head ? int64_t{heads} * dim : dim);
  }

  // Heads `first` .. `first + count` of a row, in place.
  void apply(const Resources& r, float* x, int first, int count, int dim) const {
    const float* w = weight < 0 ? ones.data() : r.vector(weight);
    for (int i = 0; i < count; ++i, x += dim) {
      const float* own = per_head ? w + int64_t{first + i} * dim : w;
      if (layer)
        r.kernels.layer_norm(x, own, nullptr, eps, dim, x);
      else
        r.kernels.rms_norm(x, own, eps, dim, x);
    }
  }
};

// A factor of queries that grows with the position.
struct Temperature {
  double scale;
  int length, offset;

  explicit Temperature(Attributes& a)
      : scale(a.number("temperature", 0.0f)),
        length(a.integer("temperature_length", 0)),
        offset(a.integer("temperature_offset", 0)) {}

  float factor(int position) const {
    const int64_t passed = (int64_t{position} + offset) / length;
    return static_cast<float>(1 + scale * exact_log(static_cast<double>(passed + 1)));
  }
};

struct Attention final : Op {
  int q, k = -1, v = -1, out, cache, layer, heads, kv_heads, dim, value_dim;  // k -1: another op fills the cache
  float scale, softcap;
  int rope, rope_offset, window, chunk;  // a query sees the last `window` tokens, of its own chunk (0: all)
  bool value_of_key;                     // values are the first numbers of keys
  bool ahead;                            // rows see later ones where the step says so
  HeadNorm q_norm, k_norm, v_norm;
  Temperature temperature;
  int sinks;  // -1: none
  int tiles = 0;

  explicit Attention(Attributes& a)
      : q(a.integers("ins").at(0)),
        out(a.integers("outs", 1)[0]),
        cache(a.integer("cache")),
        layer(a.integer("layer")),
        heads(a.integer("heads")),
        kv_heads(a.integer("kv_heads")),
        dim(a.integer("head_dim")),
        value_dim(a.integer("value_dim")),
        scale(a.number("scale")),
        softcap(a.number("softcap")),
        rope(a.integer("rope", -1)),
        rope_offset(a.integer("rope_offset")),
        window(a.integer("window")),
        chunk(a.integer("chunk")),
        value_of_key(a.integer("value_of_key") != 0),
        ahead(a.integer("ahead") != 0),
        q_norm(a, "q_norm"),
        k_norm(a, "k_norm"),
        v_norm(a, "v_norm"),
        temperature(a),
        sinks(a.integer("sinks", -1)) {
    const std::vector<int> ins = a.integers("ins");
    const bool shared = a.integer("shared") != 0;
    if (ins.size() != (shared ? 1u : value_of_key ? 2u : 3u)) throw Error("attention reads queries, keys and values");
    if (!shared) k = ins[1];
    if (ins.size() == 3) v = ins[2];
  }

  void check(Resources& r) override {
    if (kv_heads <= 0 || heads <= 0 || heads % kv_heads) throw Error("heads must be a multiple of KV heads");
    if (cache < 0 || cache >= static_cast<int>(r.caches.size())) throw Error("no such cache");
    const auto& layers = r.caches[static_cast<size_t>(cache)];
    if (layer < 0 || layer >= static_cast<int>(layers.size())) throw Error("no such layer in the cache");
    const CacheLayer& kept = layers[static_cast<size_t>(layer)];
    if (kv_heads != kept.kv_heads || dim != kept.head_dim || kept.value_dim != (value_of_key ? 0 : value_dim) ||
        window != kept.window || chunk != kept.chunk)
      throw Error("the layer does not fit the cache");
    if (dim <= 0 || value_dim <= 0 || (value_of_key && value_dim > dim)) throw Error("a value has no such length");
    if (heads * dim > r.cols(q) || heads * value_dim > r.cols(out) || (k >= 0 && kv_heads * dim > r.cols(k)) ||
        (v >= 0 && kv_heads * value_dim > r.cols(v)))
      throw Error("heads times head dimension exceeds a slot");
    if (rope >= static_cast<int>(r.rotations.size())) throw Error("no such rope");
    if (rope >= 0 && (rope_offset < 0 || rope_offset + 2 * r.rotations[static_cast<size_t>(rope)].pairs() > dim))
      throw Error("the rope turns more dimensions than a head has");
    q_norm.check(r, heads, dim);
    k_norm.check(r, kv_heads, dim);
    v_norm.check(r, kv_heads, value_dim);
    if (temperature.scale != 0 && (temperature.length <= 0 || temperature.offset < 0))
      throw Error("the temperature counts no tokens");
    if (sinks >= 0) r.check_vector(sinks, heads);
    tiles = r.tiles_of(std::min(r.max_rows, std::max(1, kTileQueries / group())));
  }

  int group() const { return heads / kv_heads; }
  const Tiles& tiles_of(const Call& call) const { return call.r.tiles[static_cast<size_t>(tiles)]; }
  int64_t span_floats(const Resources& r) const { return int64_t{kSpanBytes} / 4 * r.threads; }

  Scratch scratch(const Resources& r) const override {
    const int queries = r.tiles[static_cast<size_t>(tiles)].most_rows() * group();
    return {4 * span_floats(r), Scratch::lines(4 * r.kernels.attention_scratch(queries, dim, value_dim))};
  }

  CacheView view(const Call& call, int head, int sequence) const {
    const CachePages& pages = call.step.caches[static_cast<size_t>(cache)];
    const int64_t bytes = page_bytes(dim, value_of_key ? 0 : value_dim, call.step.cache_type);
    return {pages.layers[static_cast<size_t>(layer)] + head * bytes,
            bytes * kv_heads,
            pages.table + int64_t{sequence} * pages.pages_per_sequence,
            call.step.cache_type,
            dim,
            value_dim,
            value_of_key};
  }

  // Queries, and the key if it is not null, of one row, for one KV head: norm, rope, norm, temperature.
  void turn(const Call& call, int row, int head, float* queries, float* key) const {
    const Resources& r = call.r;
    const auto norm = [&](bool after) {
      if (q_norm.present && q_norm.after_rope == after) q_norm.apply(r, queries, head * group(), group(), dim);
      if (key && k_norm.present && k_norm.after_rope == after) k_norm.apply(r, key, head, 1, dim);
    };
    norm(false);
    if (rope >= 0) {
      const Rotation& turn = r.rotations[static_cast<size_t>(rope)];
      const int pairs = turn.pairs();
      const float *cos = turn.cos + int64_t{row} * pairs, *sin = turn.sin + int64_t{row} * pairs;
      r.kernels.rope(queries + rope_offset, group(), dim, pairs, turn.rope.neighbours, cos, sin);
      if (key) r.kernels.rope(key + rope_offset, 1, dim, pairs, turn.rope.neighbours, cos, sin);
    }
    norm(true);
    if (temperature.scale != 0)
      r.kernels.scale(queries, temperature.factor(call.step.positions[row]), int64_t{group()} * dim);
  }

  // Turns and caches what one KV head and its query heads have of a tile.
  void put(const Call& call, const Tile& tile, int head) const {
    const Resources& r = call.r;
    const int k_cols = kv_heads * dim, v_cols = kv_heads * value_dim;
    float* tile_q = r.slot(q) + int64_t{tile.first} * heads * dim + int64_t{head} * group() * dim;
    float* tile_k = k < 0 ? nullptr : r.slot(k) + int64_t{tile.first} * k_cols + int64_t{head} * dim;
    float* tile_v = v < 0 ? nullptr : r.slot(v) + int64_t{tile.first} * v_cols + int64_t{head} * value_dim;
    for (int i = 0; i < tile.rows; ++i) {
      turn(call, tile.first + i, head, tile_q + int64_t{i} * heads * dim,
           k < 0 ? nullptr : tile_k + int64_t{i} * k_cols);
      if (v >= 0 && v_norm.present) v_norm.apply(r, tile_v + int64_t{i} * v_cols, head, 1, value_dim);
    }
    if (k < 0) return;
    const Step& step = call.step;
    r.kernels.store_kv({view(call, head, step.sequences[tile.first]), step.positions + tile.first, tile.rows, tile_k,
                        tile_v, k_cols, v_cols});
  }

  AttentionArgs args(const Call& call, const Tile& tile, int head) const {
    const Step& step = call.step;
    const int64_t q_cols = int64_t{heads} * dim, out_cols = int64_t{heads} * value_dim;
    const int64_t first_head = int64_t{head} * group();
    const int32_t *positions = step.positions + tile.first, *last = ahead ? step.last_seen + tile.first : positions;
    return {view(call, head, step.sequences[tile.first]),
            call.r.slot(q) + tile.first * q_cols + first_head * dim,
            q_cols,
            positions,
            last,
            tile.rows,
            group(),
            window,
            chunk,
            scale,
            softcap,
            sinks < 0 ? nullptr : call.r.vector(sinks) + first_head,
            first_seen(positions[0], window, chunk) / kSpanTokens,
            last[tile.rows - 1] / kSpanTokens + 1,
            call.r.slot(out) + tile.first * out_cols + first_head * value_dim,
            out_cols,
            nullptr,
            reinterpret_cast<float*>(call.own)};
  }

  static constexpr int kTasksPerWorker = 8;  // fewer would let the end of a phase wait for the slowest

  void run(const Call& call) const override {
    const Tiles& laid = tiles_of(call);
    const int tasks = laid.count() * kv_heads;
    const auto tile = [&](int task) -> const Tile& { return laid[task / kv_heads]; };
    int spans = 0, rows = 1;
    if (call.worker.count() > 1 && tasks < kTasksPerWorker * call.worker.count())
      for (int task = 0; task < tasks; task += kv_heads) {
        const AttentionArgs a = args(call, tile(task), 0);
        spans = std::max(spans, a.end_span - a.first_span);
        rows = std::max(rows, a.rows);
      }
    const int64_t states = call.r.kernels.attention_states(rows * group(), value_dim);
    const int slots = static_cast<int>(span_floats(call.r) / (tasks * states));  // spans of a task there is room for
    const bool split = spans > 1 && slots > 2;

    // A tile that holds all rows of its sequence reads nothing that another one writes.
    const bool apart = laid.apart() && !split;
    if (!apart) {
      for (int c; (c = call.worker.next_chunk(tasks)) >= 0;) put(call, tile(c), c % kv_heads);
      call.worker.sync();
    }
    const bool fast = call.r.fast && call.rows > kFastRows;
    const auto attend = fast ? call.r.kernels.fast_attention : call.r.kernels.attention;
    if (split) return attend_in_spans(call, attend, spans, slots, states);
    for (int c; (c = call.worker.next_chunk(tasks)) >= 0;) {
      if (apart) put(call, tile(c), c % kv_heads);
      attend(args(call, tile(c), c % kv_heads));
    }
  }

  // Each task has `slots` states in a row; the first holds what is merged so far once there is such a thing.
  void attend_in_spans(const Call& call, void (*attend)(const AttentionArgs&), int spans, int slots,
                       int64_t states) const {
    const Tiles& laid = tiles_of(call);
    const int tasks = laid.count() * kv_heads;
    float* shared = reinterpret_cast<float*>(call.shared);
    const auto task_args = [&](int task) { return args(call, laid[task / kv_heads], task % kv_heads); };
    for (int first = 0, count; first < spans; first += count) {
      const int merged = first ? 1 : 0;
      count = std::min(slots - merged, spans - first);
      for (int c; (c = call.worker.next_chunk(tasks * count)) >= 0;) {
        AttentionArgs a = task_args(c / count);
        a.first_span += first + c % count;
        a.end_span = std::min(a.end_span, a.first_span + 1);
        a.states = shared + (int64_t{c / count} * slots + merged + c % count) * states;
        attend(a);
      }
      call.worker.sync();
      const bool last = first + count >= spans;
      for (int task; (task = call.worker.next_chunk(tasks)) >= 0;) {
        const AttentionArgs a = task_args(task);
        call.r.kernels.merge_attention({shared + int64_t{task} * slots * states, static_cast<ptrdiff_t>(states),
                                        merged + count - 1, a.rows, a.heads, a.cache.value_dim, a.sinks,
                                        last ? a.out : nullptr, a.out_stride});
      }
      if (!last) call.worker.sync();
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_attention(Attributes& a) { return std::make_unique<Attention>(a); }

}  // namespace llamaq
