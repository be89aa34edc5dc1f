// short_conv: a causal convolution over time of a few taps, column by column, between two gates or before a SiLU. What it
// needs of the rows before a step is the sequence's state. Workers share out the columns and go through the rows in order.
#include <algorithm>

#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr int kChunkCols = 256;

struct ShortConv final : Op {
  int in, out, weight, bias, layer, width, taps;  // bias: -1 if there is none
  bool gated;

  explicit ShortConv(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        weight(a.integer("weight")),
        bias(a.integer("bias", -1)),
        layer(a.integer("layer")),
        width(a.integer("width")),
        taps(a.integer("taps")),
        gated(a.integer("gated") != 0) {}

  int64_t in_cols() const { return int64_t{gated ? 3 : 1} * width; }

  void check(Resources& r) override {
    if (width < 1 || taps < 1) throw Error("a convolution needs columns and taps");
    r.check_vector(weight, int64_t{width} * taps);
    if (bias >= 0 && gated) throw Error("a convolution between gates has no bias");
    if (bias >= 0) r.check_vector(bias, width);
    if (in_cols() > r.cols(in) || width > r.cols(out)) throw Error("the convolution is wider than a slot");
    if (layer < 0 || layer >= static_cast<int>(r.states.size())) throw Error("no such layer of the state");
    if (r.states[static_cast<size_t>(layer)] != width * (taps - 1)) throw Error("the taps do not fit the state");
  }

  Scratch scratch(const Resources&) const override { return {0, Scratch::lines(int64_t{4} * taps * kChunkCols)}; }

  void run(const Call& call) const override {
    const Resources& r = call.r;
    const Step& step = call.step;
    float* const w = reinterpret_cast<float*>(call.own);
    const int chunks = (width + kChunkCols - 1) / kChunkCols;
    for (int c; (c = call.worker.next_chunk(chunks)) >= 0;) {
      const int first = c * kChunkCols, cols = std::min(kChunkCols, width - first);
      for (int tap = 0; tap < taps; ++tap)  // the weights of a tap side by side
        for (int k = 0; k < cols; ++k) w[tap * kChunkCols + k] = r.vector(weight)[int64_t{first + k} * taps + tap];
      for (int i = 0, begun = 0; i < call.rows; ++i) {
        if (step.states.parts[i] == begun) begin(step, begun++, first, cols);
        const float* x = r.slot(in) + i * in_cols() + first;
        float* const y = r.slot(out) + int64_t{i} * width + first;
        const float *const b = gated ? x : nullptr, *const c = gated ? x + width : nullptr;
        r.kernels.short_conv({b, c, gated ? c + width : x, w, kChunkCols, taps, cols,
                              after(step, step.states.parts[i]) + first, width, y});
        if (bias >= 0) r.kernels.add(y, r.vector(bias) + first, y, cols);
        if (!gated) r.kernels.activate[static_cast<int>(Activation::silu)](y, y, cols);
      }
    }
  }

 private:
  float* after(const Step& step, int part) const {
    return step.states.of(layer, step.states.after[part], width * (taps - 1));
  }

  // What the state was becomes the beginning of what it will be; before the first token it is all zeros.
  void begin(const Step& step, int part, int first, int cols) const {
    const int before = step.states.before[part];
    for (int tap = 0; tap < taps - 1; ++tap) {
      float* to = after(step, part) + int64_t{tap} * width + first;
      if (before < 0)
        std::fill_n(to, cols, 0.0f);
      else
        std::copy_n(step.states.of(layer, before, width * (taps - 1)) + int64_t{tap} * width + first, cols, to);
    }
  }
};

}  // namespace

std::unique_ptr<Op> parse_short_conv(Attributes& a) { return std::make_unique<ShortConv>(a); }

}  // namespace llamaq
