#include "engine/ops/product.h"

#include <algorithm>

#include "engine/ops/additions.h"
#include "engine/row_groups.h"
#include "engine/unpacked.h"

namespace llamaq {

constexpr int kOwnRows = 4;  // up to so many rows every worker norms and quantizes for itself: no meeting needed

Product::Product(Attributes& a) : in(a.integers("ins").at(0)), norm_(a) {
  const std::vector<int> weights = a.integers("weights"), biases = a.integers("biases", weights.size());
  for (size_t i = 0; i < weights.size(); ++i) projections.push_back({weights[i], biases[i]});
}

void Product::check(Resources& r) const {
  if (projections.empty()) throw Error("no weights");
  const int64_t width = r.checked_weight(projections[0].weight).cols;
  for (const Projection& p : projections) {
    const Weight& w = r.checked_weight(p.weight);
    if (!w.kernel || w.matrices != 1) throw Error("the weight is no matrix with a matmul kernel");
    if (w.cols != width) throw Error("the weights differ in columns");
    if (p.bias >= 0) r.check_vector(p.bias, w.rows);
  }
  if (width > r.cols(in)) throw Error("the weight has more columns than its input");
  norm_.check(r, width);
  r.most_projections = std::max(r.most_projections, projections.size());
}

Product::Layout Product::layout(const Resources& r) const {
  const int64_t width = cols(r);
  const auto blocks = [&](int64_t rows) {
    return group_blocks(rows, width) * static_cast<int64_t>(sizeof(QuantBlock));
  };
  const int64_t bf16 = r.fast ? bf16_blocks(r.max_rows, width) * static_cast<int64_t>(sizeof(Bf16Block)) : 0;
  int64_t unpacked = 0;
  for (const Projection& p : projections)
    unpacked = std::max(unpacked, unpacked_scratch(r.kernels, r.weight(p.weight)));
  Layout at;
  at.shared_blocks = Scratch::lines(4 * r.max_rows * width);
  at.shared_end = at.shared_blocks + Scratch::lines(std::max(blocks(r.max_rows + 3), bf16));  // one of them is made
  at.own_blocks = Scratch::lines(4 * kOwnRows * width);
  at.own_packed = at.own_blocks + Scratch::lines(blocks(kOwnRows));
  at.own_end = at.own_packed + Scratch::lines(unpacked);
  return at;
}

Scratch Product::scratch(const Resources& r) const {
  const Layout at = layout(r);
  return {at.shared_end, at.own_end};
}

// A column belongs to one worker, which takes the rows in order: the sums do not depend on the number of threads.
static void add_squares(const float* x, int64_t width, const Call& call) {
  const int chunks = static_cast<int>((width + kSquareColumns - 1) / kSquareColumns);
  for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
    const int64_t begin = c * kSquareColumns, end = std::min(width, begin + kSquareColumns);
    double* sums = call.squares->sums.data();
    for (int i = 0; i < call.rows; ++i)
      for (int64_t j = begin; j < end; ++j) {
        const double value = x[i * width + j];
        sums[j] += value * value;
      }
    if (c == 0) call.squares->rows[0] += call.rows;
  }
  call.worker.sync();
}

// A few rows are cheaper done by every worker for itself than a meeting; many are shared out, and are rounded to bfloat16
// instead where that is allowed.
Product::Input Product::prepare(const Call& call) const {
  const Resources& r = call.r;
  const Layout at = layout(r);
  const int64_t width = cols(r);
  const bool own = call.rows <= kOwnRows, fast = r.fast && call.rows > kFastRows;
  const bool quantized = std::any_of(projections.begin(), projections.end(),
                                     [&](const Projection& p) { return r.weight(p.weight).kernel->quantized_input; });
  float* normed = reinterpret_cast<float*>(own ? call.own : call.shared);
  uint8_t* rounded = own ? call.own + at.own_blocks : call.shared + at.shared_blocks;
  const auto blocks = reinterpret_cast<QuantBlock*>(rounded);
  const auto bf16 = reinterpret_cast<Bf16Block*>(rounded);
  const float* in_rows = r.slot(in);
  const auto row = [&](int i) {
    const float* x = in_rows + i * width;
    if (norm_) {
      norm_.apply(r, x, width, normed + i * width);
      x = normed + i * width;
    }
    if (fast)
      round_into_group(r.kernels, x, width, i, call.rows, bf16);
    else if (quantized)
      quantize_into_group(r.kernels, x, width, i, call.rows, blocks);
  };
  if (norm_ || quantized || fast) {
    if (own) {
      for (int i = 0; i < call.rows; ++i) row(i);
    } else {
      for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) row(i);
      call.worker.sync();
    }
  }
  const Input input{norm_ ? normed : in_rows, blocks, fast ? bf16 : nullptr};
  if (call.squares) add_squares(input.x, width, call);
  if (!call.additions.empty()) lower(projections, input.x, width, call);
  return input;
}

void Product::project(const Projection& p, const Input& input, const Call& call, int64_t begin, int64_t end, float* y,
                      int64_t stride) const {
  const Resources& r = call.r;
  const Weight& w = r.weight(p.weight);
  const int rows = call.rows;
  const void* x = w.kernel->quantized_input ? static_cast<const void*>(input.blocks) : input.x;
  const MatmulArgs args{w.data, input.bf16 ? input.bf16 : x, rows, w.rows, w.cols, begin, end, y, stride};
  const auto run = input.bf16 ? w.kernel->fast : w.kernel->run;
  matmul(w, run, args, call.own + layout(r).own_packed);
  if (!call.additions.empty()) add_raised(projections, p, call, begin, end, y, stride);
  if (p.bias < 0) return;
  const float* bias = r.vector(p.bias) + begin;
  for (int i = 0; i < rows; ++i) r.kernels.add(y + i * stride, bias, y + i * stride, end - begin);
}

// Whole tiles of 16 rows, small enough that every worker gets several and that the last is soon done.
int chunk_rows(int64_t total, const Call& call) {
  const int64_t share = total / (call.r.threads * 8) / 16 * 16;
  return static_cast<int>(std::clamp<int64_t>(share, 16, kChunkRows));
}

}  // namespace llamaq
