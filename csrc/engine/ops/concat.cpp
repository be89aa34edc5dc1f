// concat: the columns of each input, one behind the other.
#include <string.h>

#include <numeric>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Concat final : Op {
  std::vector<int> ins, cols;
  int out;

  explicit Concat(Attributes& a)
      : ins(a.integers("ins")), cols(a.integers("cols", ins.size())), out(a.integers("outs", 1)[0]) {}

  void check(Resources& r) override {
    int64_t total = 0;
    for (size_t i = 0; i < ins.size(); total += cols[i++])
      if (cols[i] < 1 || cols[i] > r.cols(ins[i])) throw Error("the columns exceed a slot");
    if (total > r.cols(out)) throw Error("the columns exceed the output");
  }

  void run(const Call& call) const override {
    const int64_t total = std::accumulate(cols.begin(), cols.end(), int64_t{0});
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;) {
      float* y = call.r.slot(out) + i * total;
      for (size_t part = 0; part < ins.size(); y += cols[part++])
        memcpy(y, call.r.slot(ins[part]) + int64_t{i} * cols[part], static_cast<size_t>(cols[part]) * 4);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_concat(Attributes& a) { return std::make_unique<Concat>(a); }

}  // namespace llamaq
