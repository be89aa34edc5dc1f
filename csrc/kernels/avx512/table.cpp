// The avx512 level: its simd.h under the texts of generic/.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace avx512 {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/avx512/simd.h"
#include "kernels/generic/sums_u8.h"
#include "kernels/generic/panel_words_u8.h"
#include "kernels/generic/formats.h"
#include "kernels/avx512/panel_tile.h"
#include "kernels/avx512/peak.h"
#include "kernels/generic/level.h"
}  // namespace
}  // namespace avx512

extern "C" const KernelTable llamaq_table_avx512 = avx512::make_table("avx512", kAvx512);

}  // namespace llamaq
