// The searches of the neon level: its simd.h under the texts of encode/.
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/encode_table.h"

namespace llamaq {
namespace neon {
namespace {
#include "kernels/generic/half.h"
#include "kernels/neon/dot.h"
#include "kernels/neon/simd.h"
#include "kernels/encode/level.h"
}  // namespace
}  // namespace neon

extern "C" const EncodeTable llamaq_encode_neon = neon::make_encode_table("neon", 0);

}  // namespace llamaq
