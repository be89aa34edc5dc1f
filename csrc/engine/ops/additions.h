// What adapters add to the products and look-ups of an op.
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

// The same for a stack, one row of x at a time, of which a row of the call has `each`: first the product of x with A of
// one matrix for place `place` of row `row`, in `low`; once all workers have met, what B of that matrix makes of it.
void lower_row(const std::vector<Projection>& stacks, int matrix, int row, int place, int each, const float* x,
               const Call& call);
void add_raised_row(const std::vector<Projection>& stacks, const Projection& p, int matrix, int row, int place,
                    int each, const Call& call, int64_t begin, int64_t end, float* y);

// Adds to y what adapters have for row `id` of a table, as row `row` of the call looks it up.
void add_looked_up(int table, int64_t id, int row, const Call& call, float* y);

}  // namespace llamaq
