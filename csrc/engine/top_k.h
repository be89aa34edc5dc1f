// From logits to the few tokens that sampling looks at.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

// Ids of the k greatest of n logits, which hold no NaN, in descending order; equal ones by id.
std::vector<int32_t> top_k(const float* logits, int64_t n, int64_t k);

// Sum of exp(logit - top), in the order of the ids.
double sum_exp(const float* logits, int64_t n, double top);

}  // namespace llamaq
