// The one table of block formats: GGUF type number, elements and bytes of a block (spec: ggml's type list).
#pragma once
#include <stddef.h>
#include <stdint.h>

// X(name, GGUF type number, elements per block, bytes per block)
#define LLAMAQ_FORMATS(X) \
  X(F32, 0, 1, 4)         \
  X(F16, 1, 1, 2)         \
  X(Q4_0, 2, 32, 18)      \
  X(Q4_1, 3, 32, 20)      \
  X(Q5_0, 6, 32, 22)      \
  X(Q5_1, 7, 32, 24)      \
  X(Q8_0, 8, 32, 34)      \
  X(Q2_K, 10, 256, 84)    \
  X(Q3_K, 11, 256, 110)   \
  X(Q4_K, 12, 256, 144)   \
  X(Q5_K, 13, 256, 176)   \
  X(Q6_K, 14, 256, 210)   \
  X(IQ2_XXS, 16, 256, 66) \
  X(IQ2_XS, 17, 256, 74)  \
  X(IQ3_XXS, 18, 256, 98) \
  X(IQ1_S, 19, 256, 50)   \
  X(IQ4_NL, 20, 32, 18)   \
  X(IQ3_S, 21, 256, 110)  \
  X(IQ2_S, 22, 256, 82)   \
  X(IQ4_XS, 23, 256, 136) \
  X(IQ1_M, 29, 256, 56)   \
  X(BF16, 30, 1, 2)       \
  X(TQ1_0, 34, 256, 54)   \
  X(TQ2_0, 35, 256, 66)   \
  X(MXFP4, 39, 32, 17)    \
  X(NVFP4, 40, 64, 36)    \
  X(Q1_0, 41, 128, 18)    \
  X(Q2_0, 42, 64, 18)

namespace llamaq {

enum class Format : int {
#define X(name, id, block, bytes) name = id,
  LLAMAQ_FORMATS(X)
#undef X
};

#define X(name, id, block, bytes) constexpr int kBlock_##name = block, kBytes_##name = bytes;
LLAMAQ_FORMATS(X)
#undef X

constexpr int kFormatSlots = 64;  // tables are indexed by the GGUF type number

struct FormatInfo {
  const char* name;
  int block;        // elements per block
  int block_bytes;  // bytes per block
};

// The entry of a GGUF type number, or null where llamaq has no decoder for it.
const FormatInfo* format_info(int id);

// Bytes of one row of `cols` elements; throws Error where they do not fill whole blocks.
int64_t row_bytes(Format format, int64_t cols);

}  // namespace llamaq
