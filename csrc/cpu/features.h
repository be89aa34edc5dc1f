// What this CPU can do and the operating system lets it do.
#pragma once
#include <stdint.h>

namespace llamaq {

enum Feature : uint32_t {
  kAvx2 = 1u << 0,     // AVX2 with FMA and F16C
  kNeon = 1u << 1,     // part of every 64-bit ARM CPU
  kAvxVnni = 1u << 2,  // byte products of AVX2 registers in their VEX encoding
  kAvx512 = 1u << 3,   // AVX-512 F, CD, BW, DQ, VL and VNNI
  kAmx = 1u << 4,      // tiles of int8 and bf16
  kDotProd = 1u << 5,  // ARM's sdot
  kI8mm = 1u << 6,     // ARM's smmla
};

// The answers of CPUID and XGETBV that decide, so that tests can feed tables of known CPUs.
struct CpuidLeaves {
  uint32_t ecx1 = 0;                      // leaf 1
  uint32_t ebx7 = 0, ecx7 = 0, edx7 = 0;  // leaf 7, subleaf 0
  uint32_t eax7_1 = 0;                    // leaf 7, subleaf 1
  uint64_t xcr0 = 0;                      // registers that the OS saves; 0 where OSXSAVE is clear
};

// These are the x86 features that the answers allow. AMX asks the OS for its permission besides.
uint32_t features_of(const CpuidLeaves& leaves);

// Features of the CPU that runs this, found once.
uint32_t cpu_features();

}  // namespace llamaq
