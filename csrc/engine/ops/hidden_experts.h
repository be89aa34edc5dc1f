// What act_experts and glu_experts share: a function of the products of a row with matrices of each of its experts, one
// of each stack, side by side in the order of rank. A chunk at a time, so that no product is written to memory whole.
#pragma once
#include "engine/activation.h"
#include "engine/ops/expert_product.h"

namespace llamaq {

struct HiddenExperts : Op {
  ExpertProduct product;
  int out;
  Activation act;
  bool weighted_input;

  // Throws Error unless there are so many stacks.
  HiddenExperts(Attributes& a, size_t stacks, bool weighted_input);

  void check(Resources& r) override;
  Scratch scratch(const Resources& r) const override;
  int64_t square_cols(const Resources& r) const override { return product.cols(r); }
  int64_t square_matrices(const Resources& r) const override { return product.experts(r); }
  void run(const Call& call) const override;

  // y[0 .. n) of n results of each stack, which begin kPart floats apart.
  virtual void combine(const KernelTable& kernels, const float* parts, float* y, int64_t n) const = 0;

  static constexpr int kSlab = 128;  // rows of an expert at once
  static constexpr int64_t kPart = int64_t{kSlab} * kChunkRows;
};

}  // namespace llamaq
