// Repetition in a sequence of tokens.
#pragma once
#include <stdint.h>

#include <vector>

namespace llamaq {

// Counts, for each i < n, the tokens that end with tokens[i] and are also the last ones of the sequence, in order.
// Source: the Z-algorithm (Gusfield 1997), from the end.
std::vector<int32_t> repeats(const int32_t* tokens, int64_t n);

}  // namespace llamaq
