// Products with weights that stay in the file's mapping.
#pragma once
#include "engine/weights.h"

namespace llamaq {

// Bytes of scratch that matmul_unpacked() takes for this weight; 0 where it is not needed.
int64_t unpacked_scratch(const KernelTable& table, const Weight& w);

// What run(args), one of w.kernel's functions, would give, were the weight packed. Each group of 16 rows is packed into `scratch` right
// before its kernel reads it, so the arithmetic is the same.
void matmul_unpacked(const Weight& w, void (*run)(const MatmulArgs&), const MatmulArgs& args, uint8_t* scratch);

// The product with a weight that may be packed.
inline void matmul(const Weight& w, void (*run)(const MatmulArgs&), const MatmulArgs& args, uint8_t* scratch) {
  if (w.packed)
    run(args);
  else
    matmul_unpacked(w, run, args, scratch);
}

}  // namespace llamaq
