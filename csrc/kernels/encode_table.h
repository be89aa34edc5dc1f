// The contract between llamaq quantize and an instruction set: the searches that turn floats into blocks.
// As in table.h, everything is data or a pointer.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

namespace llamaq {

constexpr int kBatch = 16;  // blocks that are searched together, one in each lane

struct EncodeTable {
  const char* isa;
  uint32_t needs;  // cpu::Feature bits
  // The index is the GGUF type number. `batches` times 16 blocks of `x`, whose squared errors count `w` times (as many
  // floats; null: once), become blocks at `dst`. Values and weights are below 2^50, weights positive. An entry is null
  // where a format has no search.
  void (*encode[kFormatSlots])(const float* x, const float* w, int64_t batches, uint8_t* dst);
};

extern "C" {
extern const EncodeTable llamaq_encode_scalar;
extern const EncodeTable llamaq_encode_avx2;
extern const EncodeTable llamaq_encode_avx512;
extern const EncodeTable llamaq_encode_neon;
}

}  // namespace llamaq
