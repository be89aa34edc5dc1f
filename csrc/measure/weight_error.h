// How far the weights of one encoding are from those of another.
#pragma once
#include <stdint.h>

#include <functional>

#include "core/format.h"
#include "cpu/thread_team.h"
#include "kernels/table.h"

namespace llamaq {

struct WeightError {
  double base_squares = 0, error_squares = 0;  // sums for the base's weights, and for the differences from them
};

// Compares `n` weights, whole blocks of both formats. The sums are the same for any number of threads. Throws Cancelled
// when `interrupted` said so.
WeightError weight_error(const KernelTable& kernels, ThreadTeam& team, Format base_format, const uint8_t* base,
                         Format other_format, const uint8_t* other, int64_t n,
                         const std::function<bool()>& interrupted = {});

}  // namespace llamaq
