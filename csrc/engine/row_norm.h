// A norm of rows as a plan names it: its own op, or the prologue of another.
#pragma once
#include <string>

#include "engine/attributes.h"
#include "engine/resources.h"

namespace llamaq {

class RowNorm {
 public:
  // Reads the attributes `norm`, `norm_eps`, `norm_kind` and `norm_bias`; without an eps there is no norm.
  explicit RowNorm(Attributes& a) : eps_(a.number("norm_eps", -1)) {
    if (!*this) return;
    weight_ = a.integer("norm", -1);
    bias_ = a.integer("norm_bias", -1);
    const std::string& kind = a.text("norm_kind");
    if (kind != "rms" && kind != "layer") throw Error("there is no norm '" + kind + "'");
    layer_ = kind == "layer";
  }

  explicit operator bool() const { return eps_ >= 0; }

  // Throws Error where weight and bias do not have the rows' width.
  void check(const Resources& r, int64_t width) const {
    for (const int vector : {weight_, bias_})
      if (vector >= 0) r.check_vector(vector, width);
    if (bias_ >= 0 && !layer_) throw Error("an RMS norm has no bias");
  }

  // y must not be x. The weights begin `at` numbers into their vectors.
  void apply(const Resources& r, const float* x, int64_t width, float* y, int64_t at = 0) const {
    const auto vector = [&](int i) { return i < 0 ? nullptr : r.vector(i) + at; };
    if (layer_)
      r.kernels.layer_norm(x, vector(weight_), vector(bias_), eps_, width, y);
    else
      r.kernels.rms_norm(x, vector(weight_), eps_, width, y);
  }

 private:
  float eps_;
  int weight_ = -1, bias_ = -1;  // -1: none
  bool layer_ = false;
};

}  // namespace llamaq
