#include "cpu/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#include "cpu/windows.h"
#endif

namespace llamaq {

static bool has(uint64_t answer, uint64_t wanted) { return (answer & wanted) == wanted; }
static constexpr uint64_t bit(int n) { return uint64_t{1} << n; }

uint32_t features_of(const CpuidLeaves& leaves) {
  constexpr uint64_t kFma = bit(12), kOsxsave = bit(27), kAvx = bit(28), kF16c = bit(29);  // leaf 1, ECX
  constexpr uint64_t kAvx2Bit = bit(5);                                                    // leaf 7, EBX
  constexpr uint64_t kAvx512Bits = bit(16) | bit(17) | bit(28) | bit(30) | bit(31);        // F DQ CD BW VL
  constexpr uint64_t kVnni512 = bit(11);                                                   // leaf 7, ECX
  constexpr uint64_t kAmxBits = bit(22) | bit(24) | bit(25);                             // leaf 7, EDX: BF16 TILE INT8
  constexpr uint64_t kVnniVex = bit(4);                                                  // leaf 7.1, EAX
  constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6, kTileState = bit(17) | bit(18);  // XCR0
  if (!has(leaves.ecx1, kFma | kOsxsave | kAvx | kF16c) || !has(leaves.ebx7, kAvx2Bit)) return 0;
  if (!has(leaves.xcr0, kYmmState)) return 0;
  uint32_t features = kAvx2;
  if (has(leaves.eax7_1, kVnniVex)) features |= kAvxVnni;
  if (has(leaves.ebx7, kAvx512Bits) && has(leaves.ecx7, kVnni512) && has(leaves.xcr0, kZmmState)) features |= kAvx512;
  if (has(leaves.edx7, kAmxBits) && has(leaves.xcr0, kTileState)) features |= kAmx;
  return features;
}

#if defined(__x86_64__)
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

static Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves zeros where there is no such leaf
  return r;
}

static uint64_t read_xcr0() {
  uint32_t lo, hi;
  __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t{hi} << 32) | lo;
}

static CpuidLeaves read_cpuid() {
  CpuidLeaves leaves;
  leaves.ecx1 = cpuid(1, 0).c;
  const Registers r = cpuid(7, 0);  // EAX holds the number of the last subleaf
  leaves.ebx7 = r.b, leaves.ecx7 = r.c, leaves.edx7 = r.d;
  if (r.a >= 1) leaves.eax7_1 = cpuid(7, 1).a;
  if (has(leaves.ecx1, bit(27))) leaves.xcr0 = read_xcr0();
  return leaves;
}

// Linux enlarges a process's signal frames only once it asks for the tiles; it refuses where a thread has a signal stack
// too small for that. Threads that exist and threads to come are all allowed then.
static bool tiles_permitted() {
#if defined(__linux__)
  constexpr long kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
#else
  return false;
#endif
}

static uint32_t find_features() {
  const uint32_t features = features_of(read_cpuid());
  return (features & kAmx) && !tiles_permitted() ? features & ~kAmx : features;
}
#elif defined(__aarch64__) && defined(__linux__)
static uint32_t find_features() {
  uint32_t features = kNeon;
  if (has(getauxval(AT_HWCAP), bit(20))) features |= kDotProd;  // HWCAP_ASIMDDP
  if (has(getauxval(AT_HWCAP2), bit(13))) features |= kI8mm;    // HWCAP2_I8MM
  return features;
}
#elif defined(__aarch64__) && defined(__APPLE__)
static bool reports(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value;
}
static uint32_t find_features() {
  uint32_t features = kNeon;
  if (reports("hw.optional.arm.FEAT_DotProd")) features |= kDotProd;
  if (reports("hw.optional.arm.FEAT_I8MM")) features |= kI8mm;
  return features;
}
#elif defined(__aarch64__) && defined(_WIN32)
static uint32_t find_features() {
  constexpr DWORD kDotProducts = 43, kByteMatrices = 66;  // winnt.h of older SDKs lacks their names
  uint32_t features = kNeon;
  if (IsProcessorFeaturePresent(kDotProducts)) features |= kDotProd;
  if (IsProcessorFeaturePresent(kByteMatrices)) features |= kI8mm;
  return features;
}
#elif defined(__aarch64__)
static uint32_t find_features() { return kNeon; }
#else
static uint32_t find_features() { return 0; }
#endif

uint32_t cpu_features() {
  static const uint32_t features = find_features();
  return features;
}

}  // namespace llamaq
