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
#include "kernels/generic/half.h"
#include "kernels/avx2/simd.h"
#include "kernels/generic/dequantize.h"
#include "kernels/generic/pack.h"
#include "kernels/generic/weights_legacy.h"
#include "kernels/generic/weights_k.h"
#include "kernels/generic/matmul.h"
#include "kernels/generic/math.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/attention.h"
#include "kernels/generic/entries.h"
}  // namespace
}  // namespace avx2

extern "C" const KernelTable llamaq_table_avx2 = avx2::make_table("avx2", kAvx2);

}  // namespace llamaq
