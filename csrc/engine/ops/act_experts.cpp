// act_experts: for each row and each of its experts act(W * x + bias), side by side in the order of rank.
#include "engine/ops/hidden_experts.h"
#include "engine/ops/ops.h"

namespace llamaq {

namespace {

struct ActExperts final : HiddenExperts {
  explicit ActExperts(Attributes& a) : HiddenExperts(a, 1, false) {}

  void check(Resources& r) override {
    HiddenExperts::check(r);
    if (!r.kernels.activate[static_cast<int>(act)]) throw Error("this activation needs a gate");
  }
  void combine(const KernelTable& kernels, const float* parts, float* y, int64_t n) const override {
    kernels.activate[static_cast<int>(act)](parts, y, n);
  }
};

}  // namespace

std::unique_ptr<Op> parse_act_experts(Attributes& a) { return std::make_unique<ActExperts>(a); }

}  // namespace llamaq
