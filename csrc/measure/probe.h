// The machine's limits, measured with the threads and the SIMD level that run the model.
#pragma once
#include <stdint.h>

#include "cpu/thread_team.h"
#include "kernels/table.h"

namespace llamaq {

struct MachineLimits {
  double read_bytes;  // bytes a second, all threads together, from a buffer that no cache holds
  double int8_ops;    // operations a second on operands in registers; a product and its addition are two
};

// Reads `bytes` of memory several times; the best pass counts. Throws Error where there is no such memory.
MachineLimits probe(const KernelTable& kernels, ThreadTeam& team, int64_t bytes);

}  // namespace llamaq
