// route: which experts a row goes to, by its logits for all of them: their numbers in the order of rank, then their
// weights (docs/numerics.md).
#include <math.h>

#include <algorithm>
#include <limits>

#include "engine/lanes.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

constexpr float kLeastTotal = 6.103515625e-5f;  // weights are divided by no less

enum class Gating { softmax, sigmoid, softmax_of_chosen };

Gating gating_of(const std::string& name) {
  if (name == "softmax") return Gating::softmax;
  if (name == "sigmoid") return Gating::sigmoid;
  if (name == "softmax_of_chosen") return Gating::softmax_of_chosen;
  throw Error("no gating '" + name + "'");
}

void softmax(const KernelTable& kernels, const float* x, float* y, int n) {
  float top = x[0];
  for (int i = 1; i < n; ++i)
    if (x[i] > top || isnan(x[i])) top = x[i];  // a NaN stays
  kernels.exp_row(x, top, y, n);
  const float total = lane_sum(n, [&](int64_t i) { return y[i]; });
  for (int i = 0; i < n; ++i) y[i] /= total;
}

// Numbers of the `most` greatest scores, the greatest first, of equal ones the lower number. None may be NaN.
int greatest(const float* scores, int n, int most, int* chosen, const bool* excluded = nullptr) {
  int count = 0;
  for (int i = 0; i < n; ++i) {
    if (excluded && excluded[i]) continue;
    if (count == most && !(scores[i] > scores[chosen[count - 1]])) continue;
    int j = count < most ? count++ : count - 1;
    for (; j > 0 && scores[i] > scores[chosen[j - 1]]; --j) chosen[j] = chosen[j - 1];
    chosen[j] = i;
  }
  return count;
}

float known(float x) { return isnan(x) ? -std::numeric_limits<float>::infinity() : x; }

struct Route final : Op {
  int in, out, experts, used, groups, groups_used, selection, factors;
  Gating gating;
  bool normalize;
  float scale;

  explicit Route(Attributes& a)
      : in(a.integers("ins", 1)[0]),
        out(a.integers("outs", 1)[0]),
        experts(a.integer("experts")),
        used(a.integer("used")),
        groups(a.integer("groups")),
        groups_used(a.integer("groups_used")),
        selection(a.integer("selection", -1)),
        factors(a.integer("factors", -1)),
        gating(gating_of(a.text("gating"))),
        normalize(a.integer("normalize") != 0),
        scale(a.number("scale")) {}

  void check(Resources& r) override {
    if (groups < 1 || experts < 1 || experts % groups || groups_used < 1 || groups_used > groups)
      throw Error("groups are of equal size, and some are used");
    if (used < 1 || used > experts / groups * groups_used) throw Error("a row goes to one expert at least");
    if (experts > r.cols(in) || 2 * used > r.cols(out)) throw Error("the routing exceeds a slot");
    for (const int vector : {selection, factors})
      if (vector >= 0) r.check_vector(vector, experts);
  }

  struct Layout {
    int64_t scores, sums, chosen, excluded, end;
  };
  Layout layout() const {
    Layout l;
    l.scores = Scratch::lines(4 * experts);
    l.sums = l.scores + Scratch::lines(4 * experts);
    l.chosen = l.sums + Scratch::lines(4 * groups);
    l.excluded = l.chosen + Scratch::lines(4 * experts);
    l.end = l.excluded + Scratch::lines(experts);
    return l;
  }
  Scratch scratch(const Resources&) const override { return {0, layout().end}; }

  void run(const Call& call) const override {
    const Layout l = layout();
    const auto floats = [&](int64_t at) { return reinterpret_cast<float*>(call.own + at); };
    float *const shares = floats(0), *const scores = floats(l.scores), *const sums = floats(l.sums);
    int* const chosen = reinterpret_cast<int*>(call.own + l.chosen);
    bool* const excluded = reinterpret_cast<bool*>(call.own + l.excluded);
    for (int row; (row = call.worker.next_chunk(call.rows)) >= 0;) {
      const float* logits = call.r.slot(in) + int64_t{row} * experts;
      float* y = call.r.slot(out) + int64_t{row} * 2 * used;
      gate(call.r.kernels, logits, shares, scores);
      score(call.r, logits, shares, scores);
      exclude(scores, sums, chosen, excluded);
      greatest(scores, experts, used, chosen, groups > 1 ? excluded : nullptr);
      for (int j = 0; j < used; ++j) y[j] = static_cast<float>(chosen[j]), y[used + j] = shares[chosen[j]];
      weigh(call.r.kernels, y + used);
      if (factors >= 0)
        for (int j = 0; j < used; ++j) y[used + j] *= call.r.vector(factors)[chosen[j]];
    }
  }

  void gate(const KernelTable& kernels, const float* logits, float* shares, float* magnitudes) const {
    if (gating == Gating::softmax) return softmax(kernels, logits, shares, experts);
    if (gating == Gating::softmax_of_chosen) {
      std::copy_n(logits, experts, shares);
      return;
    }
    for (int i = 0; i < experts; ++i) magnitudes[i] = -fabsf(logits[i]);
    kernels.exp_row(magnitudes, 0, shares, experts);
    for (int i = 0; i < experts; ++i) shares[i] = (logits[i] >= 0 ? 1.0f : shares[i]) / (1.0f + shares[i]);
  }

  // Logits order like shares, and do not become equal where those are rounded.
  void score(const Resources& r, const float* logits, const float* shares, float* scores) const {
    const float* bias = selection < 0 ? nullptr : r.vector(selection);
    for (int i = 0; i < experts; ++i)
      scores[i] = known(bias ? shares[i] + bias[i] : groups > 1 ? shares[i] : logits[i]);
  }

  // A group is as good as its two best experts together. `kept` is room for their numbers.
  void exclude(const float* scores, float* sums, int* kept, bool* excluded) const {
    if (groups == 1) return;
    const int size = experts / groups;
    for (int g = 0; g < groups; ++g) {
      const float* of_group = scores + g * size;
      int best[2];
      const int found = greatest(of_group, size, 2, best);
      sums[g] = found == 2 ? known(of_group[best[0]] + of_group[best[1]]) : of_group[best[0]];
    }
    std::fill_n(excluded, experts, true);
    const int count = greatest(sums, groups, groups_used, kept);
    for (int i = 0; i < count; ++i) std::fill_n(excluded + kept[i] * size, size, false);
  }

  void weigh(const KernelTable& kernels, float* weights) const {
    if (gating == Gating::softmax_of_chosen) softmax(kernels, weights, weights, used);
    if (normalize) {
      const float total = lane_sum(used, [&](int64_t j) { return weights[j]; });
      for (int j = 0; j < used; ++j) weights[j] /= total < kLeastTotal ? kLeastTotal : total;
    }
    for (int j = 0; j < used; ++j) weights[j] *= scale;
  }
};

}  // namespace

std::unique_ptr<Op> parse_route(Attributes& a) { return std::make_unique<Route>(a); }

}  // namespace llamaq
