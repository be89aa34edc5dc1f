// Packs GGUF rows into the one layout of all levels (R16D4): sixteen rows are sixteen lanes.
//
// For each group of 16 rows and each block, the block's binary16 scalars become [16] halves and every 32-bit word w
// of its remaining bytes becomes 16 consecutive words, row 0 to 15. Nothing is rounded and no byte is added; rows
// that are missing in the last group are zero. Float rows become [cols][16].

struct Field {
  int offset, count;
};  // bytes from the block's start; how many halves or words

// Where a format's halves and words lie in a block, in the order in which they are packed.
struct BlockLayout {
  int block, block_bytes;
  Field halves[2];
  Field words[4];
  bool spread_first_word;  // the first word (the high bits of Q5_0, Q5_1) is regrouped by spread_q5_bits
};

// Bit 4k + b goes to bit 8b + k: byte b then holds, for word k, the bit of its byte b.
inline uint32_t spread_q5_bits(uint32_t bits) {
  uint32_t out = 0;
  for (int k = 0; k < 8; ++k)
    for (int b = 0; b < 4; ++b) out |= ((bits >> (4 * k + b)) & 1u) << (8 * b + k);
  return out;
}

inline void pack_blocks(const PackArgs& a, const BlockLayout& layout) {
  const int64_t blocks = a.cols / layout.block, row_size = blocks * layout.block_bytes;
  for (int64_t group = a.begin; group < a.end; ++group) {
    uint8_t* dst = a.dst + group * 16 * row_size;
    const int valid = a.rows - group * 16 < 16 ? static_cast<int>(a.rows - group * 16) : 16;
    for (int64_t block = 0; block < blocks; ++block, dst += 16 * layout.block_bytes) {
      uint8_t* out = dst;
      if (valid < 16) memset(dst, 0, static_cast<size_t>(16 * layout.block_bytes));
      const uint8_t* src = a.src + group * 16 * row_size + block * layout.block_bytes;
      for (const Field& f : layout.halves)
        for (int i = 0; i < f.count; ++i, out += 32)
          for (int row = 0; row < valid; ++row) memcpy(out + 2 * row, src + row * row_size + f.offset + 2 * i, 2);
      for (const Field& f : layout.words)
        for (int i = 0; i < f.count; ++i, out += 64)
          for (int row = 0; row < valid; ++row) {
            uint32_t word;
            memcpy(&word, src + row * row_size + f.offset + 4 * i, 4);
            if (layout.spread_first_word && &f == layout.words && i == 0) word = spread_q5_bits(word);
            memcpy(out + 4 * row, &word, 4);
          }
    }
  }
}

template <int kBytes>
inline void pack_floats(const PackArgs& a) {
  for (int64_t group = a.begin; group < a.end; ++group) {
    uint8_t* dst = a.dst + group * 16 * a.cols * kBytes;
    const int valid = a.rows - group * 16 < 16 ? static_cast<int>(a.rows - group * 16) : 16;
    if (valid < 16) memset(dst, 0, static_cast<size_t>(16 * a.cols * kBytes));
    const uint8_t* src = a.src + group * 16 * a.cols * kBytes;
    for (int64_t first = 0; first < a.cols; first += 64)  // a tile that stays in the first-level cache
      for (int row = 0; row < valid; ++row)
        for (int64_t k = first; k < a.cols && k < first + 64; ++k)
          memcpy(dst + (k * 16 + row) * kBytes, src + (row * a.cols + k) * kBytes, kBytes);
  }
}

template <class W>
inline void pack_format(const PackArgs& a) {
  pack_blocks(a, W::kLayout);
}

template <class W>
inline int64_t packed_bytes_format(int64_t rows, int64_t cols) {
  return (rows + 15) / 16 * 16 * (cols / W::kLayout.block * W::kLayout.block_bytes);
}

template <int kBytes>
inline int64_t packed_bytes_floats(int64_t rows, int64_t cols) {
  return (rows + 15) / 16 * 16 * cols * kBytes;
}
