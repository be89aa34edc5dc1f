// What adapters add to the products of an op.
#pragma once
#include <vector>

#include "engine/op.h"
#include "engine/ops/product.h"

namespace llamaq {

// The products of the rows x with A, for all projections that the step's adapters have factors of. All workers call it,
// and meet where there is something to do.
void lower(const std::vector<Projection>& projections, const float* x, int64_t cols, const Call& call);

// Adds to rows begin .. end of a projection's products, at most kChunkRows, what B makes of that.
void add_raised(const std::vector<Projection>& projections, const Projection& p, const Call& call, int64_t begin,
                int64_t end, float* y, int64_t stride);

}  // namespace llamaq
