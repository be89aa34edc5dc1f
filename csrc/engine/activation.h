// The activations of rows by their names in plans.
#pragma once
#include "core/error.h"
#include "engine/attributes.h"
#include "kernels/table.h"

namespace llamaq {

// The attribute `act`. Throws Error for another name.
inline Activation activation_of(Attributes& a) {
  constexpr const char* kNames[kActivations] = {"silu",    "gelu",  "gelu_erf",  "sigmoid",
                                                "clamped", "relu2", "gelu_quick"};
  const std::string& name = a.text("act");
  for (int i = 0; i < kActivations; ++i)
    if (name == kNames[i]) return static_cast<Activation>(i);
  throw Error("there is no activation '" + name + "'");
}

}  // namespace llamaq
