// The scalar level: its simd.h under the texts of generic/.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace scalar {
namespace {
#include "kernels/generic/constant.h"
#include "kernels/generic/half.h"
#include "kernels/scalar/simd.h"
#include "kernels/generic/sums_i32.h"
#include "kernels/generic/formats.h"
#include "kernels/generic/panel_tile.h"
#include "kernels/generic/level.h"
}  // namespace
}  // namespace scalar

extern "C" const KernelTable llamaq_table_scalar = scalar::make_table("scalar", 0);

}  // namespace llamaq
