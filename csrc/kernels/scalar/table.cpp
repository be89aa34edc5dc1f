// The scalar level: its simd.h under the texts of generic/.

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/table.h"

namespace llamaq {
namespace scalar {
namespace {
#include "kernels/generic/half.h"
#include "kernels/scalar/simd.h"
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
}  // namespace scalar

extern "C" const KernelTable llamaq_table_scalar = scalar::make_table("scalar", 0);

}  // namespace llamaq
