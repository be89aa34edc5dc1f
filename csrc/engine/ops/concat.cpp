// concat: the columns of one input, then those of another.
#include <string.h>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Concat final : Op {
  std::vector<int> ins, cols;
  int out;

  explicit Concat(Attributes& a)
      : ins(a.integers("ins", 2)), cols(a.integers("cols", 2)), out(a.integers("outs", 1)[0]) {}

  void check(Resources& r) override {
    for (size_t i = 0; i < 2; ++i)
      if (cols[i] < 1 || cols[i] > r.cols(ins[i])) throw Error("the columns exceed a slot");
    if (cols[0] > r.cols(out) - cols[1]) throw Error("the columns exceed the output");
  }

  void run(const Call& call) const override {
    const int64_t first = cols[0], second = cols[1];
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      float* const y = call.r.slot(out) + i * (first + second);
      memcpy(y, call.r.slot(ins[0]) + i * first, static_cast<size_t>(first) * 4);
      memcpy(y + first, call.r.slot(ins[1]) + i * second, static_cast<size_t>(second) * 4);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_concat(Attributes& a) { return std::make_unique<Concat>(a); }

}  // namespace llamaq
