#include "kernels/dispatch.h"

#include <stdlib.h>

#include "core/error.h"
#include "cpu/features.h"

namespace llamaq {

template <class Entry>
static void replace(Entry& entry, Entry own) {
  if (own) entry = own;
}

[[maybe_unused]] static KernelTable whole(const KernelExtension& level) {
  KernelTable table = *level.base;
  table.isa = level.isa;
  table.needs = level.needs;
  for (int id = 0; id < kFormatSlots; ++id) {
    replace(table.matmul[id].name, level.matmul[id].name);
    replace(table.matmul[id].run, level.matmul[id].run);
    replace(table.matmul[id].fast, level.matmul[id].fast);
  }
  replace(table.bf16_row, level.bf16_row);
  replace(table.fast_attention, level.fast_attention);
  replace(table.attention_scratch, level.attention_scratch);
  replace(table.int8_peak, level.int8_peak);
  return table;
}

std::vector<const KernelTable*> built_tables() {
  // The slowest come first: the last one that the CPU can run is the choice.
  static const KernelTable tables[] = {
      llamaq_table_scalar,
#if defined(LLAMAQ_AVX2)
      llamaq_table_avx2,
#endif
#if defined(LLAMAQ_AVXVNNI)
      whole(llamaq_table_avxvnni),
#endif
#if defined(LLAMAQ_AVX512)
      llamaq_table_avx512,
#endif
#if defined(LLAMAQ_AMX)
      whole(llamaq_table_amx),
#endif
#if defined(LLAMAQ_NEON)
      llamaq_table_neon,
#endif
#if defined(LLAMAQ_NEON_DOTPROD)
      whole(llamaq_table_neon_dotprod),
#endif
#if defined(LLAMAQ_NEON_I8MM)
      whole(llamaq_table_neon_i8mm),
#endif
  };
  std::vector<const KernelTable*> found;
  for (const KernelTable& table : tables) found.push_back(&table);
  return found;
}

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : built_tables())
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
