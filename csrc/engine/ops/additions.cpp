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

// Calls f with the adapters of one row that have factors of the weight, and where `low` has room for them: of each
// addition, `each` times the rank for each of its rows.
template <class F>
static void each_of_row(int weight, int row, int each, float*& low, const Call& call, const F& f) {
  for (const Addition& addition : call.additions)
    if (const Factors* factors = addition.adapter->of(weight)) {
      const Weight &a = addition.adapter->weight(factors->a), &b = addition.adapter->weight(factors->b);
      const int at = row - addition.first;
      if (at >= 0 && at < addition.rows)
        f(a, b, static_cast<float>(factors->scale * addition.scale), low + int64_t{at} * each * b.cols);
      low += int64_t{addition.rows} * each * b.cols;
    }
}

// Adds rows begin .. end of B times low, some at a time.
static void raise(const Weight& b, const float* low, const Call& call, int64_t begin, int64_t end, float* y) {
  alignas(64) float part[kChunkRows];
  for (int64_t first = begin; first < end; first += kChunkRows) {
    const int64_t last = std::min(end, first + kChunkRows);
    b.kernel->run({b.data, low, 1, b.rows, b.cols, first, last, part, kChunkRows});
    call.r.kernels.add(y + (first - begin), part, y + (first - begin), last - first);
  }
}

void lower_row(const std::vector<Projection>& stacks, int matrix, int row, int place, int each, const float* x,
               const Call& call) {
  float* low = call.low;
  for (const Projection& p : stacks)
    each_of_row(p.weight, row, each, low, call, [&](const Weight& stack, const Weight&, float scale, float* y) {
      const Weight a = stack.at(matrix);
      y += place * a.rows;
      a.kernel->run({a.data, x, 1, a.rows, a.cols, 0, a.rows, y, a.rows});
      call.r.kernels.scale(y, scale, a.rows);
    });
}

void add_raised_row(const std::vector<Projection>& stacks, const Projection& p, int matrix, int row, int place,
                    int each, const Call& call, int64_t begin, int64_t end, float* y) {
  float* low = call.low;
  for (const Projection& q : stacks)
    each_of_row(q.weight, row, each, low, call, [&](const Weight&, const Weight& stack, float, const float* lowered) {
      if (&q == &p) raise(stack.at(matrix), lowered + place * stack.cols, call, begin, end, y);
    });
}

void add_looked_up(int table, int64_t id, int row, const Call& call, float* y) {
  float* low = call.low;
  each_of_row(table, row, 1, low, call, [&](const Weight& a, const Weight& b, float scale, float* lowered) {
    std::copy_n(reinterpret_cast<const float*>(a.data) + id * b.cols, b.cols, lowered);
    call.r.kernels.scale(lowered, scale, b.cols);
    raise(b, lowered, call, 0, b.rows, y);
  });
}

}  // namespace llamaq
