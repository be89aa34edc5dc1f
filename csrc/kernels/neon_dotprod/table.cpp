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
#include "kernels/generic/level.h"
}  // namespace
}  // namespace neon_dotprod

extern "C" const KernelTable llamaq_table_neon_dotprod = neon_dotprod::make_table("neon_dotprod", kNeon | kDotProd);

}  // namespace llamaq
