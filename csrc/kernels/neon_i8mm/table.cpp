// The neon_i8mm level: NEON with products of 2x8 by 8x2 matrices in one instruction.
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace neon_i8mm {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/neon_dotprod/dot.h"
#include "kernels/neon/simd.h"
#include "kernels/generic/sums_i32.h"
#include "kernels/generic/formats.h"
#include "kernels/neon_i8mm/panel_tile.h"
#include "kernels/neon_i8mm/peak.h"
#include "kernels/generic/extension_level.h"
}  // namespace
}  // namespace neon_i8mm

extern "C" const KernelExtension llamaq_table_neon_i8mm =
    neon_i8mm::make_extension("neon_i8mm", kNeon | kDotProd | kI8mm, &llamaq_table_neon);

}  // namespace llamaq
