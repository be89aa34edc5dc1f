// What C++ throws. The bindings turn it into llamaq.errors.LlamaqError.
#pragma once
#include <stdexcept>

namespace llamaq {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A level that LLAMAQ_ISA names and that this CPU or this build lacks.
struct IsaError : Error {
  using Error::Error;
};

// A forward pass that was told to stop.
struct Cancelled : Error {
  Cancelled() : Error("the forward pass was cancelled") {}
};

}  // namespace llamaq
