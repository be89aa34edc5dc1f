#include "cpu/features.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#define LLAMAQ_X86 1
#endif

namespace llamaq {

uint32_t features_of(const CpuidLeaves& leaves) {
  constexpr uint32_t kFma = 1u << 12, kOsxsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;
  constexpr uint32_t kAvx2Bit = 1u << 5;
  constexpr uint64_t kYmmState = 0x6;  // XMM and YMM
  const uint32_t wanted = kFma | kOsxsave | kAvx | kF16c;
  uint32_t features = 0;
  if ((leaves.ecx1 & wanted) == wanted && (leaves.ebx7 & kAvx2Bit) && (leaves.xcr0 & kYmmState) == kYmmState)
    features |= kAvx2;
  return features;
}

#if LLAMAQ_X86
static CpuidLeaves read_cpuid() {
  CpuidLeaves leaves;
  uint32_t a, b, c, d;
#if defined(_MSC_VER)
  int r[4];
  __cpuid(r, 0);
  const uint32_t top = r[0];
  __cpuid(r, 1);
  leaves.ecx1 = r[2];
  if (top >= 7) __cpuidex(r, 7, 0), leaves.ebx7 = r[1];
  if (leaves.ecx1 & (1u << 27)) leaves.xcr0 = _xgetbv(0);
  (void)a, (void)b, (void)c, (void)d;
#else
  if (__get_cpuid(1, &a, &b, &c, &d)) leaves.ecx1 = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) leaves.ebx7 = b;
  if (leaves.ecx1 & (1u << 27)) {
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    leaves.xcr0 = (static_cast<uint64_t>(hi) << 32) | lo;
  }
#endif
  return leaves;
}
#endif

uint32_t cpu_features() {
#if LLAMAQ_X86
  static const uint32_t features = features_of(read_cpuid());
  return features;
#elif defined(__aarch64__) || defined(_M_ARM64)
  return kNeon;
#else
  return 0;
#endif
}

}  // namespace llamaq
