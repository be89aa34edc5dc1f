// Advice to the system about pages of a mapped file. Only advice: where it is not understood, nothing happens.
#pragma once
#include <stdint.h>

namespace llamaq {

// The bytes are read soon: start reading what is not in memory.
void will_read(const uint8_t* data, int64_t bytes);

// This process is done with the bytes, which must be of a mapped file: their pages no longer count as its memory, and
// come back from the system's cache or the file where they are touched again.
void release_pages(const uint8_t* data, int64_t bytes);

}  // namespace llamaq
