// The amx level: AVX-512, and tile products wherever two or more rows of x are multiplied.
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
#include "kernels/generic/level.h"
#include "kernels/amx/bf16_panel.h"
#include "kernels/amx/bf16_matmul.h"
#include "kernels/amx/bf16_attention.h"

// Tiles are configured for the time of a call; one for a single row uses none.
template <class W>
inline void with_tiles(const MatmulArgs& a) {
  if (a.m < 2) return matmul_quantized<W>(a);
  configure_tiles(kShapes<kParts<typename W::Form>>);
  matmul_quantized<W>(a);
  release_tiles();
}

constexpr KernelTable make_amx_table(uint32_t needs) {
  KernelTable t = make_table("amx", needs);
#define X(format)                                                        \
  t.matmul[static_cast<int>(Format::format)].name = #format "_i8_16x16"; \
  t.matmul[static_cast<int>(Format::format)].run = with_tiles<format>;   \
  t.matmul[static_cast<int>(Format::format)].fast = matmul_bf16<fill_bf16_from_packed<format>>;
  LLAMAQ_QUANTIZED_LIST(X)
#undef X
  t.matmul[static_cast<int>(Format::F32)].fast = matmul_bf16<fill_bf16_from_floats<WeightsF32>>;
  t.matmul[static_cast<int>(Format::F16)].fast = matmul_bf16<fill_bf16_from_floats<WeightsF16>>;
  t.matmul[static_cast<int>(Format::BF16)].fast = matmul_bf16<fill_bf16_from_floats<WeightsBF16>>;
  t.bf16_row = bf16_row;
  t.fast_attention = fast_attention;
  t.attention_scratch = fast_attention_scratch;
  t.int8_peak = tile_peak;
  return t;
}
}  // namespace
}  // namespace amx

#if defined(LLAMAQ_EMULATE)
constexpr uint32_t kNeeded = kAvx512;
#else
constexpr uint32_t kNeeded = kAvx512 | kAmx;
#endif
extern "C" const KernelTable llamaq_table_amx = amx::make_amx_table(kNeeded);

}  // namespace llamaq
