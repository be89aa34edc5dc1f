// What this CPU can do and the operating system lets it do.
#pragma once
#include <stdint.h>

namespace llamaq {

enum Feature : uint32_t {
  kAvx2 = 1u << 0,  // AVX2 with FMA and F16C, registers saved by the OS
  kNeon = 1u << 1,  // part of every 64-bit ARM CPU
};

// The answers of CPUID and XGETBV that decide, so that tests can feed tables of known CPUs.
struct CpuidLeaves {
  uint32_t ecx1 = 0;  // leaf 1
  uint32_t ebx7 = 0;  // leaf 7, subleaf 0
  uint64_t xcr0 = 0;  // 0 where OSXSAVE is clear
};

// Pure: the features that these answers allow.
uint32_t features_of(const CpuidLeaves& leaves);

// Features of the CPU that runs this, found once.
uint32_t cpu_features();

}  // namespace llamaq
