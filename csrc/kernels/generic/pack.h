// Packs GGUF rows into the one layout of all levels (R16D4): sixteen rows are sixteen lanes.
//
// For each group of 16 rows and each block, the block's binary16 scalars become [16] halves, its single-byte scalars
// [16] bytes, and every 32-bit word w of its remaining bytes 16 consecutive words, row 0 to 15. Nothing is rounded and
// no byte is added; rows that are missing in the last group are zero. Float rows become [cols][16].
//
// Each row is read front to back, four words at a time: the level's transpose_words turns 16 rows x 4 words.

struct Field {
  int offset, count;
};  // bytes from the block's start; how many halves, bytes or words

// A layout says where a format's halves, bytes and words lie in a block; they are packed in this order, those of one kind
// as listed.
struct BlockLayout {
  int block, block_bytes;
  Field halves[2];
  Field words[6];
  Field bytes = {0, 0};
  I32 (*regroup)(I32) = nullptr;  // what the words of the first field become
};

constexpr int kMostBlockBytes = 256;

// Exchanges the bits of `mask` with those `distance` places above them.
inline I32 exchange_bits(I32 x, int distance, uint32_t mask) {
  const I32 low = splat_i32(static_cast<int32_t>(mask));
  const I32 others = splat_i32(static_cast<int32_t>(~(mask | mask << distance)));
  return (x & others) | shift_left(x & low, distance) | (shift_right(x, distance) & low);
}

// Bit 4k + b goes to bit 8b + k: byte b then holds, for word k, the bit of its byte b. A bit's number has the binary
// digits k2 k1 k0 b1 b0; four exchanges of two digits make them b1 b0 k2 k1 k0.
inline I32 regroup_bits(I32 bits) {
  bits = exchange_bits(bits, 14, 0x0000cccc);
  bits = exchange_bits(bits, 7, 0x00aa00aa);
  bits = exchange_bits(bits, 2, 0x0c0c0c0c);
  return exchange_bits(bits, 1, 0x22222222);
}

// Bits 8k + 2b and the next go to bits 8b + 2k and the next: byte b then holds, for word k, the two bits of its byte b.
inline I32 regroup_pairs(I32 bits) { return exchange_bits(exchange_bits(bits, 12, 0x0000f0f0), 6, 0x00cc00cc); }

// The same kBytes of 16 rows that lie `stride` bytes apart, one after the other.
template <int kBytes>
inline void pack_column(const uint8_t* src, ptrdiff_t stride, uint8_t* out) {
  for (int row = 0; row < 16; ++row) memcpy(out + kBytes * row, src + row * stride, kBytes);
}

inline void pack_block(const uint8_t* src, ptrdiff_t stride, const BlockLayout& layout, uint8_t* out) {
  for (const Field& f : layout.halves)
    for (int i = 0; i < f.count; ++i, out += 32) pack_column<2>(src + f.offset + 2 * i, stride, out);
  for (int i = 0; i < layout.bytes.count; ++i, out += 16) pack_column<1>(src + layout.bytes.offset + i, stride, out);
  uint8_t* word = out;
  for (const Field& f : layout.words) {
    int i = 0;
    for (; i + 4 <= f.count; i += 4, out += 256) transpose_words(src + f.offset + 4 * i, stride, out);
    for (; i < f.count; ++i, out += 64) pack_column<4>(src + f.offset + 4 * i, stride, out);
  }
  for (int i = 0; layout.regroup && i < layout.words[0].count; ++i, word += 64)
    store(reinterpret_cast<float*>(word), from_bits(layout.regroup(load_i32(word))));
}

inline void pack_blocks(const PackArgs& a, const BlockLayout& layout) {
  const int64_t bytes = layout.block_bytes, blocks = a.cols / layout.block, row_size = blocks * bytes;
  for (int64_t group = a.begin; group < a.end; ++group) {
    const uint8_t* src = a.src + group * 16 * row_size;
    uint8_t* dst = a.dst + group * 16 * row_size;
    const int64_t valid = a.rows - group * 16;
    for (int64_t block = 0; block < blocks; ++block, src += bytes, dst += 16 * bytes) {
      if (valid >= 16) {
        pack_block(src, row_size, layout, dst);
      } else {
        uint8_t padded[16 * kMostBlockBytes] = {};
        for (int64_t row = 0; row < valid; ++row)
          memcpy(padded + row * bytes, src + row * row_size, static_cast<size_t>(bytes));
        pack_block(padded, bytes, layout, dst);
      }
    }
  }
}

// Pairs of halves of 16 rows, as two columns of halves.
inline void split_pairs(const uint8_t* pairs, uint8_t* out) {
  for (int row = 0; row < 16; ++row) {
    memcpy(out + 2 * row, pairs + 4 * row, 2);
    memcpy(out + 32 + 2 * row, pairs + 4 * row + 2, 2);
  }
}

template <int kBytes>
inline void pack_floats(const PackArgs& a) {
  const int64_t row_size = a.cols * kBytes;
  for (int64_t group = a.begin; group < a.end; ++group) {
    const uint8_t* src = a.src + group * 16 * row_size;
    uint8_t* dst = a.dst + group * 16 * row_size;
    const int64_t valid = a.rows - group * 16 < 16 ? a.rows - group * 16 : 16;
    int64_t at = 0;  // bytes of each row that are done
    for (; valid == 16 && at + 16 <= row_size; at += 16, dst += 256) {
      if (kBytes == 4) {
        transpose_words(src + at, row_size, dst);
      } else {
        uint8_t pairs[256];
        transpose_words(src + at, row_size, pairs);
        for (int i = 0; i < 4; ++i) split_pairs(pairs + 64 * i, dst + 64 * i);
      }
    }
    for (; at < row_size; at += kBytes, dst += 16 * kBytes) {
      memset(dst, 0, 16 * kBytes);
      for (int64_t row = 0; row < valid; ++row) memcpy(dst + row * kBytes, src + row * row_size + at, kBytes);
    }
  }
}

template <class W>
inline void pack_format(const PackArgs& a) {
  static_assert(W::kLayout.block_bytes <= kMostBlockBytes, "pack_blocks pads blocks of this size");
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
