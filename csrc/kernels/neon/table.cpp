// The neon level: its simd.h under the texts of generic/.
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace neon {
namespace {
#include "kernels/generic/half.h"
#include "kernels/neon/simd.h"
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
}  // namespace neon

extern "C" const KernelTable llamaq_table_neon = neon::make_table("neon", kNeon);

}  // namespace llamaq
