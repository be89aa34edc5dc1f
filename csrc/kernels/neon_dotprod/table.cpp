// The neon_dotprod level: NEON with sums of four products in one instruction.
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace neon_dotprod {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/neon_dotprod/dot.h"
#include "kernels/neon/simd.h"
#include "kernels/generic/sums_i32.h"
#include "kernels/generic/formats.h"
#include "kernels/generic/panel_tile.h"
#include "kernels/generic/extension_level.h"
}  // namespace
}  // namespace neon_dotprod

extern "C" const KernelExtension llamaq_table_neon_dotprod =
    neon_dotprod::make_extension("neon_dotprod", kNeon | kDotProd, &llamaq_table_neon);

}  // namespace llamaq
