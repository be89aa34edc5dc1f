// glu_experts: for each row and each of its experts act(gate(x)) * up(x), side by side in the order of rank.
#include "engine/ops/hidden_experts.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct GluExperts final : HiddenExperts {
  explicit GluExperts(Attributes& a) : HiddenExperts(a, 2, a.integer("weighted_input") != 0) {}

  void combine(const KernelTable& kernels, const float* parts, float* y, int64_t n) const override {
    kernels.glu[static_cast<int>(act)](parts, parts + kPart, y, n);
  }
};

}  // namespace

std::unique_ptr<Op> parse_glu_experts(Attributes& a) { return std::make_unique<GluExperts>(a); }

}  // namespace llamaq
