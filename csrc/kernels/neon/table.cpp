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
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/neon/dot.h"
#include "kernels/neon/simd.h"
#include "kernels/generic/sums_i32.h"
#include "kernels/generic/formats.h"
#include "kernels/generic/panel_tile.h"
#include "kernels/neon/peak.h"
#include "kernels/generic/level.h"
}  // namespace
}  // namespace neon

extern "C" const KernelTable llamaq_table_neon = neon::make_table("neon", kNeon);

}  // namespace llamaq
