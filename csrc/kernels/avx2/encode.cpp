// The searches of the avx2 level: its simd.h under the texts of encode/.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/encode_table.h"

namespace llamaq {
namespace avx2 {
namespace {
#include "kernels/generic/half.h"
#include "kernels/avx2/dot.h"
#include "kernels/avx2/simd.h"
#include "kernels/encode/level.h"
}  // namespace
}  // namespace avx2

extern "C" const EncodeTable llamaq_encode_avx2 = avx2::make_encode_table("avx2", kAvx2);

}  // namespace llamaq
