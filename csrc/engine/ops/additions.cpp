#include "engine/ops/additions.h"

#include <algorithm>

namespace llamaq {

// Calls f with each projection and addition that there are factors for, and the place of the products with A.
template <class F>
static void each(const std::vector<Projection>& projections, const Call& call, const F& f) {
  float* low = call.low;
  for (const Projection& p : projections)
    for (const Addition& addition : call.additions)
      if (const Factors* factors = addition.adapter->of(p.weight)) {
        const Weight &a = addition.adapter->weight(factors->a), &b = addition.adapter->weight(factors->b);
        f(p, addition, a, b, static_cast<float>(factors->scale * addition.scale), low);
        low += addition.rows * a.rows;
      }
}

// Pieces are 16 rows of A times as many of x.
void lower(const std::vector<Projection>& projections, const float* x, int64_t cols, const Call& call) {
  const auto groups = [](int64_t n) { return static_cast<int>((n + kGroupRows - 1) / kGroupRows); };
  int total = 0;
  each(projections, call,
       [&](const Projection&, const Addition& addition, const Weight& a, const Weight&, float, float*) {
         total += groups(addition.rows) * groups(a.rows);
       });
  if (!total) return;
  for (int c; (c = call.worker.next_chunk(total)) >= 0;) {
    int piece = c;
    each(projections, call,
         [&](const Projection&, const Addition& addition, const Weight& a, const Weight&, float scale, float* low) {
           const int wide = groups(a.rows), count = groups(addition.rows) * wide;
           if (piece >= 0 && piece < count) {
             const int first = piece / wide * kGroupRows, rows = std::min(kGroupRows, addition.rows - first);
             const int64_t begin = int64_t{piece % wide} * kGroupRows, end = std::min(a.rows, begin + kGroupRows);
             float* y = low + first * a.rows + begin;
             a.kernel->run({a.data, x + (addition.first + first) * cols, rows, a.rows, cols, begin, end, y, a.rows});
             for (int i = 0; i < rows; ++i) call.r.kernels.scale(y + i * a.rows, scale, end - begin);
           }
           piece -= count;
         });
  }
  call.worker.sync();
}

void add_raised(const std::vector<Projection>& projections, const Projection& p, const Call& call, int64_t begin,
                int64_t end, float* y, int64_t stride) {
  each(projections, call,
       [&](const Projection& q, const Addition& addition, const Weight& a, const Weight& b, float, const float* low) {
         if (&q != &p) return;
         alignas(64) float part[kGroupRows * kChunkRows];
         for (int first = 0; first < addition.rows; first += kGroupRows) {
           const int rows = std::min(kGroupRows, addition.rows - first);
           b.kernel->run({b.data, low + first * a.rows, rows, b.rows, b.cols, begin, end, part, kChunkRows});
           for (int i = 0; i < rows; ++i) {
             float* to = y + (addition.first + first + i) * stride;
             call.r.kernels.add(to, part + i * kChunkRows, to, end - begin);
           }
         }
       });
}

}  // namespace llamaq
