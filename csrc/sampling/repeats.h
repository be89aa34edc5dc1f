// Repetition in a sequence of tokens.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

// For each i < n, how many tokens that end with tokens[i] are also the last ones of the sequence, in the same order.
// Source: the Z-algorithm (Gusfield 1997), from the end.
std::vector<int32_t> repeats(const int32_t* tokens, int64_t n);

}  // namespace llamaq
