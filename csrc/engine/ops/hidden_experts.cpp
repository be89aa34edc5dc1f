#include "engine/ops/hidden_experts.h"

#include <algorithm>
#include <string>

namespace llamaq {

HiddenExperts::HiddenExperts(Attributes& a, size_t stacks, bool weighted)
    : product(a, false), out(a.integers("outs", 1)[0]), act(activation_of(a)), weighted_input(weighted) {
  if (product.stacks.size() != stacks)
    throw Error("expected stacks: " + std::to_string(stacks) + ", got " + std::to_string(product.stacks.size()));
}

void HiddenExperts::check(Resources& r) {
  product.check(r);
  if (product.used * product.rows(r) > r.cols(out)) throw Error("the stack has more rows than its output");
}

// Behind what the products take, a worker has the results of all stacks for one chunk: rows of an expert lie apart in
// the output.
Scratch HiddenExperts::scratch(const Resources& r) const {
  Scratch need = product.scratch(r);
  need.own += static_cast<int64_t>(product.stacks.size()) * Scratch::lines(4 * kPart);
  return need;
}

void HiddenExperts::run(const Call& call) const {
  const Resources& r = call.r;
  const ExpertProduct::Rows rows = product.prepare(call, weighted_input);
  const int64_t width = product.rows(r);
  const ExpertChunks chunks(rows, width, call);
  float* const parts = reinterpret_cast<float*>(call.own + product.scratch(r).own);
  for (int c; (c = call.worker.next_chunk(chunks.count)) >= 0;) {
    const int n = chunks.expert(c), rows_here = rows.first[n + 1] - rows.first[n];
    const int64_t begin = chunks.begin(c), end = chunks.end(c);
    for (int first = 0; first < rows_here; first += kSlab) {
      const int count = std::min(kSlab, rows_here - first);
      float* part = parts;
      for (const Projection& stack : product.stacks) {
        product.project(stack, rows, n, first, count, call, begin, end, part, kChunkRows);
        part += kPart;
      }
      for (int i = 0; i < count; ++i) {
        float* y = r.slot(out) + rows.pairs[rows.first[n] + first + i] * width + begin;
        combine(r.kernels, parts + i * kChunkRows, y, end - begin);
      }
    }
  }
}

}  // namespace llamaq
