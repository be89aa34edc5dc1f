// Rows of one format as rows of another: decoding, checking, and the searches of kernels/encode on all threads.
#pragma once
#include <stdint.h>

#include "core/format.h"
#include "cpu/thread_team.h"

namespace llamaq {

struct QuantizeArgs {
  Format from, to;
  int64_t rows, cols;
  const uint8_t* src;    // rows of `from`
  const float* weights;  // [cols], or null: all columns count alike
  uint8_t* dst;          // rows of `to`
};

// Fills dst. Returns -1, or the first row that holds a value which is no number or too large (2^50 and more; dst is then
// of no use). The bytes depend neither on `isa` ("" or null: the level in use) nor on the threads.
// Throws Error where there is no search for a format, IsaError for a level that is not available.
int64_t quantize_rows(const QuantizeArgs& args, ThreadTeam& team, const char* isa);

}  // namespace llamaq
