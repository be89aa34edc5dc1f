// split_heads: the first half of each head's columns, and the second.
#include <string.h>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct SplitHeads final : Op {
  int in, heads, dim;
  std::vector<int> outs;

  explicit SplitHeads(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        heads(a.integer("heads")),
        dim(a.integer("head_dim")),
        outs(a.integers("outs", 2)) {}

  void check(Resources& r) override {
    if (heads < 1 || dim < 1 || int64_t{2} * heads * dim > r.cols(in)) throw Error("the heads exceed a slot");
    for (const int out : outs)
      if (heads * dim > r.cols(out)) throw Error("the heads exceed a slot");
  }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* x = r.slot(in) + int64_t{i} * 2 * heads * dim;
      for (int head = 0; head < heads; ++head)
        for (size_t half = 0; half < 2; ++half, x += dim)
          memcpy(r.slot(outs[half]) + (int64_t{i} * heads + head) * dim, x, static_cast<size_t>(dim) * 4);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_split_heads(Attributes& a) { return std::make_unique<SplitHeads>(a); }

}  // namespace llamaq
