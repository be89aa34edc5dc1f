#include "kernels/dispatch.h"

#include <stdlib.h>

#include "core/error.h"
#include "cpu/features.h"

namespace llamaq {

// The slowest come first: the last one that the CPU can run is the choice.
static const KernelTable* const kTables[] = {
    &llamaq_table_scalar,
#if defined(LLAMAQ_AVX2)
    &llamaq_table_avx2,
#endif
#if defined(LLAMAQ_AVXVNNI)
    &llamaq_table_avxvnni,
#endif
#if defined(LLAMAQ_AVX512)
    &llamaq_table_avx512,
#endif
#if defined(LLAMAQ_AMX)
    &llamaq_table_amx,
#endif
#if defined(LLAMAQ_NEON)
    &llamaq_table_neon,
#endif
#if defined(LLAMAQ_NEON_DOTPROD)
    &llamaq_table_neon_dotprod,
#endif
#if defined(LLAMAQ_NEON_I8MM)
    &llamaq_table_neon_i8mm,
#endif
};

std::vector<const KernelTable*> built_tables() { return {std::begin(kTables), std::end(kTables)}; }

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : kTables)
    if ((table->needs & ~cpu_features()) == 0) tables.push_back(table);
  return tables;
}

const KernelTable& kernel_table(const char* isa) {
  if (!isa || !*isa) isa = getenv("LLAMAQ_ISA");
  const std::vector<const KernelTable*> tables = usable_tables();
  if (!isa || !*isa) return *tables.back();
  std::string names;
  for (const KernelTable* table : tables) {
    if (table->isa == std::string(isa)) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw IsaError("the SIMD level '" + std::string(isa) + "' (LLAMAQ_ISA) is not available: this CPU and build have " +
                 names + "; unset LLAMAQ_ISA or name one of these");
}

}  // namespace llamaq
