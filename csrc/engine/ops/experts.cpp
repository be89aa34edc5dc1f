// experts: the products of a row's parts with the matrices of its experts, each times its weight, summed in the order of
// rank, plus the third input where there is one.
#include <algorithm>

#include "engine/ops/expert_product.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr int64_t kSumColumns = 512;  // columns that a worker sums at once

struct Experts final : Op {
  ExpertProduct product;
  int out, add = -1;
  bool weighted;

  explicit Experts(Attributes& a)
      : product(a, true), out(a.integers("outs", 1)[0]), weighted(a.integer("weighted") != 0) {
    const std::vector<int> ins = a.integers("ins");
    if (ins.size() > 3) throw Error("experts add one value at most");
    if (ins.size() == 3) add = ins[2];
    if (product.stacks.size() != 1) throw Error("experts are summed of one stack");
  }

  void check(Resources& r) override {
    product.check(r);
    if (product.rows(r) > r.cols(out) || (add >= 0 && product.rows(r) > r.cols(add)))
      throw Error("a residual needs the width of the product");
  }

  // Behind what the products take, all share the results of the pairs, and a worker has the place of each pair.
  Scratch scratch(const Resources& r) const override {
    const int64_t pairs = int64_t{product.used} * r.max_rows;
    Scratch need = product.scratch(r);
    need.shared += Scratch::lines(4 * pairs * product.rows(r));
    need.own += Scratch::lines(4 * pairs);
    return need;
  }
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }
  int64_t square_matrices(const Resources& r) const override { return product.experts(r); }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const ExpertProduct::Rows rows = product.prepare(call, false);
    const int64_t width = product.rows(r);
    const Scratch behind = product.scratch(r);
    float* const parts = reinterpret_cast<float*>(call.shared + behind.shared);
    const ExpertChunks chunks(rows, width, call);
    for (int c; (c = call.worker.next_chunk(chunks.count)) >= 0;) {
      const int n = chunks.expert(c), first = rows.first[n];
      const int64_t begin = chunks.begin(c), end = chunks.end(c);
      product.project(product.stacks[0], rows, n, 0, rows.first[n + 1] - first, call, begin, end,
                      parts + first * width + begin, width);
    }
    int* const place = reinterpret_cast<int*>(call.own + behind.own);
    for (int i = 0; i < call.rows * product.used; ++i) place[rows.pairs[i]] = i;
    call.worker.sync();
    const int each = static_cast<int>((width + kSumColumns - 1) / kSumColumns);
    for (int c; (c = call.worker.next_chunk(call.rows * each)) >= 0;) {
      const int64_t begin = c % each * kSumColumns;
      sum(call, c / each, parts, place, begin, std::min(width, begin + kSumColumns));
    }
  }

  void sum(const Call& call, int row, const float* parts, const int* place, int64_t begin, int64_t end) const {
    const Resources& r = call.r;
    const int64_t width = product.rows(r);
    const float* weights = r.slot(product.routing) + int64_t{row} * 2 * product.used + product.used;
    float* const y = r.slot(out) + row * width;
    for (int j = 0; j < product.used; ++j) {
      const float* part = parts + place[row * product.used + j] * width;
      const float w = weighted ? weights[j] : 1.0f;
      if (j == 0)
        for (int64_t i = begin; i < end; ++i) y[i] = part[i] * w;
      else
        for (int64_t i = begin; i < end; ++i) y[i] += part[i] * w;
    }
    if (add >= 0) r.kernels.add(r.slot(add) + row * width + begin, y + begin, y + begin, end - begin);
  }
};

}  // namespace

std::unique_ptr<Op> parse_experts(Attributes& a) { return std::make_unique<Experts>(a); }

}  // namespace llamaq
