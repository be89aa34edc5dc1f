// The searches of the scalar level: its simd.h under the texts of encode/.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/encode_table.h"

namespace llamaq {
namespace scalar {
namespace {
#include "kernels/generic/half.h"
#include "kernels/scalar/simd.h"
#include "kernels/encode/level.h"
}  // namespace
}  // namespace scalar

extern "C" const EncodeTable llamaq_encode_scalar = scalar::make_encode_table("scalar", 0);

}  // namespace llamaq
