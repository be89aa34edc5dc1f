// The amx level: AVX-512, and tile products wherever more than a few rows of x are multiplied.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace amx {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/avx512/simd.h"
#include "kernels/generic/sums_u8.h"
#include "kernels/amx/panel_words.h"
#include "kernels/generic/formats.h"
#include "kernels/amx/tiles.h"
#include "kernels/amx/panel_tile.h"
#include "kernels/amx/peak.h"
#include "kernels/generic/outputs.h"
#include "kernels/amx/direct.h"
#include "kernels/generic/fetch.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/product.h"
#include "kernels/generic/matmul_float.h"
#include "kernels/generic/math.h"
#include "kernels/generic/cache.h"
#include "kernels/generic/attention.h"
#include "kernels/amx/bf16_panel.h"
#include "kernels/amx/bf16_matmul.h"
#include "kernels/amx/bf16_attention.h"

// Tiles are configured for the time of a call; one for a few rows uses none.
template <class W>
inline void with_tiles(const MatmulArgs& a) {
  if (a.m <= kDirectRows) return llamaq_table_avx512.matmul[kSlot<W>].run(a);
  configure_tiles(kShapes<kParts<typename W::Form>>);
  matmul_quantized<W>(a);
  release_tiles();
}

constexpr KernelExtension make_amx_extension(uint32_t needs) {
  KernelExtension e{};
  e.isa = "amx";
  e.needs = needs;
  e.base = &llamaq_table_avx512;
#define X(format)                                 \
  e.matmul[static_cast<int>(Format::format)] = {  \
      #format "_i8_16x16",                        \
      with_tiles<format>,                         \
      fast_matmul<fill_bf16_from_packed<format>>, \
  };
  LLAMAQ_QUANTIZED_LIST(X)
#undef X
  e.matmul[static_cast<int>(Format::F32)].fast = fast_matmul<fill_bf16_from_floats<WeightsF32>>;
  e.matmul[static_cast<int>(Format::F16)].fast = fast_matmul<fill_bf16_from_floats<WeightsF16>>;
  e.matmul[static_cast<int>(Format::BF16)].fast = fast_matmul<fill_bf16_from_floats<WeightsBF16>>;
  e.bf16_row = bf16_row;
  e.fast_attention = fast_attention;
  e.attention_scratch = fast_attention_scratch;
  e.int8_peak = tile_peak;
  return e;
}
}  // namespace
}  // namespace amx

#if defined(LLAMAQ_EMULATE)
constexpr uint32_t kNeeded = kAvx512;
#else
constexpr uint32_t kNeeded = kAvx512 | kAmx;
#endif
extern "C" const KernelExtension llamaq_table_amx = amx::make_amx_extension(kNeeded);

}  // namespace llamaq
