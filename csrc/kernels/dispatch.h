// This file chooses the table of kernels that runs on this CPU.
#pragma once
#include <string>
#include <vector>

#include "kernels/table.h"

namespace llamaq {

// Levels that this build holds, slowest first.
std::vector<const KernelTable*> built_tables();

// Those that this CPU runs.
std::vector<const KernelTable*> usable_tables();

// The best usable level, or the one called `isa` ("" or null: LLAMAQ_ISA where it is set). Throws IsaError where that
// level is unknown, was not built, or is beyond this CPU.
const KernelTable& kernel_table(const char* isa = nullptr);

}  // namespace llamaq
