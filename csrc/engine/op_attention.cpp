// Attention: rotate the new queries and keys, put keys and values into the cache, then attend row by row and KV head
// by KV head. A row sees the tokens up to its own position, whatever else the step holds.
#include "engine/executor.h"

namespace llamaq {

CacheView Executor::cache_view(const Step& step, int layer, int head, int sequence) const {
  const int64_t bytes = page_bytes(plan_.head_dim, step.cache_f16);
  const int64_t layer_pages = int64_t{layer} * step.n_pages;
  return {step.cache + (layer_pages * plan_.kv_heads + head) * bytes,
          bytes * plan_.kv_heads,
          step.pages + int64_t{sequence} * step.pages_per_sequence,
          step.cache_f16,
          plan_.head_dim,
          plan_.head_dim};
}

void Executor::run(const AttentionOp& op, const Call& call) {
  const Step& step = call.step;
  const int64_t q_cols = int64_t{op.heads} * op.head_dim, kv_cols = int64_t{op.kv_heads} * op.head_dim;
  for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
    float *q = slot_data(op.q) + i * q_cols, *k = slot_data(op.k) + i * kv_cols, *v = slot_data(op.v) + i * kv_cols;
    if (op.rope >= 0) {
      const Rope& rope = plan_.ropes[static_cast<size_t>(op.rope)];
      const int pairs = static_cast<int>(rope.frequencies.size());
      const float* cos = rope_cos_[static_cast<size_t>(op.rope)] + int64_t{i} * pairs;
      const float* sin = rope_sin_[static_cast<size_t>(op.rope)] + int64_t{i} * pairs;
      kernels_.rope(q, op.heads, op.head_dim, pairs, rope.neighbours, cos, sin);
      kernels_.rope(k, op.kv_heads, op.head_dim, pairs, rope.neighbours, cos, sin);
    }
    for (int head = 0; head < op.kv_heads; ++head)
      kernels_.store_kv(cache_view(step, op.layer, head, step.sequences[i]), step.positions[i], k + head * op.head_dim,
                        v + head * op.head_dim);
  }
  call.worker.sync();

  const int group = op.heads / op.kv_heads;
  for (int c; (c = call.worker.next_chunk(call.rows * op.kv_heads)) >= 0;) {
    const int head = c / call.rows, i = c % call.rows;
    const int64_t first = i * q_cols + int64_t{head} * group * op.head_dim;
    kernels_.attention({cache_view(step, op.layer, head, step.sequences[i]), slot_data(op.q) + first, group,
                        step.positions[i] + 1, op.scale, slot_data(op.out) + first,
                        scratch_[static_cast<size_t>(call.worker.id())].attention});
  }
}

}  // namespace llamaq
