// What recurrences over the tokens of a sequence share: the states of heads, and the numbers that gates become.
#pragma once
#include <math.h>

#include <algorithm>

#include "core/error.h"
#include "engine/op.h"
#include "sampling/elementary.h"

namespace llamaq {

// The states of a layer's heads, of `size` floats each.
struct HeadStates {
  int layer, heads, size;

  void check(const Resources& r) const {
    if (layer < 0 || layer >= static_cast<int>(r.states.size())) throw Error("no such layer of the state");
    if (r.states[static_cast<size_t>(layer)] != int64_t{heads} * size) throw Error("the heads do not fit the state");
  }

  // Where `begin` puts its pointers.
  static int64_t latest_bytes(const Resources& r) { return Scratch::lines(int64_t{sizeof(float*)} * r.max_rows); }

  float* after(const Step& s, int part, int head) const { return of(s, s.states.after[part], head); }

  // The state of each part of the step before its rows; before the first token it is all zeros.
  const float** begin(const Call& call, int head) const {
    const float** latest = reinterpret_cast<const float**>(call.own);
    for (int part = 0; part < call.step.states.n_parts; ++part) {
      const int before = call.step.states.before[part];
      float* const found = before >= 0 ? of(call.step, before, head) : after(call.step, part, head);
      if (before < 0) std::fill_n(found, size, 0.0f);
      latest[part] = found;
    }
    return latest;
  }

 private:
  float* of(const Step& s, int slot, int head) const {
    return s.states.of(layer, slot, heads * size) + int64_t{head} * size;
  }
};

// exp(x), for x <= 0.
inline float exp_of(const KernelTable& kernels, float x) {
  float y;
  kernels.exp_row(&x, 0, &y, 1);
  return y;
}

// log(1 + exp(x)).
inline float softplus(const KernelTable& kernels, float x) {
  const double rest = exact_log(1.0 + static_cast<double>(exp_of(kernels, -fabsf(x))));
  return (x > 0 ? x : 0.0f) + static_cast<float>(rest);
}

// What is left of the past: exp(min(0, fall)).
inline float left_of_past(const KernelTable& kernels, float fall) { return exp_of(kernels, fall > 0 ? 0.0f : fall); }

}  // namespace llamaq
