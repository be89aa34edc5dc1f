// What stands ahead of a block is asked for while the block is multiplied.

constexpr int kFar = 6144, kNear = 512;  // bytes ahead

// Whole bytes need so little work with one row that a core's few open requests bind: there one line of four is fetched
// far ahead, and the processor's own prefetchers bring its neighbours.
template <class W, int kRows>
constexpr bool kSparse = kRows == 1 && kDirectRows > 4 && packed_block_bytes<W>() > 512;

// Fetches one block's share of what stands ahead of it: to the second-level cache, since the first has room for few open
// requests, and from there to the first where a turn takes long, with several rows, or little is asked for far ahead. (The
// short step makes one row of Q4_K a tenth slower on Zen 5.) The empty statements keep GCC from moving the requests of all
// blocks into one burst.
template <class W, int kRows>
inline void fetch_ahead(const uint8_t* share) {
  constexpr int kBytes = packed_block_bytes<W>();
  asm volatile("");
  prefetch<kBytes, 2, kSparse<W, kRows> ? 256 : 64>(share + kFar);
  if constexpr (kRows > 1 || kSparse<W, kRows>) prefetch<kBytes>(share + kNear);
  asm volatile("");
}
