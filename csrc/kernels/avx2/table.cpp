// The avx2 level: its simd.h under the texts of generic/.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace avx2 {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/avx2/dot.h"
#include "kernels/avx2/simd.h"
#include "kernels/avx2/sums_i16.h"
#include "kernels/generic/formats.h"
#include "kernels/avx2/panel_tile.h"
#include "kernels/avx2/peak.h"
#include "kernels/generic/level.h"
}  // namespace
}  // namespace avx2

extern "C" const KernelTable llamaq_table_avx2 = avx2::make_table("avx2", kAvx2);

}  // namespace llamaq
