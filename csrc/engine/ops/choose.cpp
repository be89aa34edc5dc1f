// choose: the rows of one input where the step marks them, elsewhere those of another.
#include <string.h>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct Choose final : Op {
  int marked, others, out, cols;

  explicit Choose(Attributes& a)
      : marked(a.integers("ins", 2)[0]),
        others(a.integers("ins", 2)[1]),
        out(a.integers("outs", 1)[0]),
        cols(a.integer("cols")) {}

  void check(Resources& r) override {
    for (const int slot : {marked, others, out})
      if (cols <= 0 || cols > r.cols(slot)) throw Error("the rows exceed a slot");
  }

  void run(const Call& call) const override {
    const int64_t width = cols;
    const uint8_t* marks = call.step.marked;
    for (int i; (i = call.worker.next_chunk(call.rows)) >= 0;)
      memcpy(call.r.slot(out) + i * width, call.r.slot(marks && marks[i] ? marked : others) + i * width,
             static_cast<size_t>(width) * 4);
  }
};

}  // namespace

std::unique_ptr<Op> parse_choose(Attributes& a) { return std::make_unique<Choose>(a); }

}  // namespace llamaq
