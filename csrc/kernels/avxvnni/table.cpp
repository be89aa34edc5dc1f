// The avxvnni level: AVX2 with sums of four products in one instruction.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace avxvnni {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/avxvnni/dot.h"
#include "kernels/avx2/simd.h"
#include "kernels/generic/sums_u8.h"
#include "kernels/generic/panel_words_u8.h"
#include "kernels/generic/formats.h"
#include "kernels/avx2/panel_tile.h"
#include "kernels/generic/extension_level.h"
}  // namespace
}  // namespace avxvnni

#if defined(LLAMAQ_EMULATE)
constexpr uint32_t kNeeded = kAvx2 | kAvx512;
#else
constexpr uint32_t kNeeded = kAvx2 | kAvxVnni;
#endif
extern "C" const KernelExtension llamaq_table_avxvnni = avxvnni::make_extension("avxvnni", kNeeded, &llamaq_table_avx2);

}  // namespace llamaq
