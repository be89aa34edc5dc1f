// The searches of the avx512 level: its simd.h under the texts of encode/.
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/features.h"
#include "kernels/encode_table.h"

namespace llamaq {
namespace avx512 {
namespace {
#include "kernels/generic/half.h"
#include "kernels/avx512/simd.h"
#include "kernels/encode/level.h"
}  // namespace
}  // namespace avx512

extern "C" const EncodeTable llamaq_encode_avx512 = avx512::make_encode_table("avx512", kAvx512);

}  // namespace llamaq
