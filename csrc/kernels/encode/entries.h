// The table of one instruction set, from the texts above.

template <class E, class Encode>
inline void each_batch(const float* x, const float* w, int64_t batches, uint8_t* dst, const Encode& encode) {
  Batch b;
  b.weighted = w != nullptr;
  if (!w)
    for (int e = 0; e < E::kElements; ++e) store(b.w + kBatch * e, splat(1));
  for (; batches > 0; --batches, dst += kBatch * E::kBytes) {
    transpose_blocks<E::kElements>(x, b.x);
    x += kBatch * E::kElements;
    if (w) {
      transpose_blocks<E::kElements>(w, b.w);
      w += kBatch * E::kElements;
    }
    encode(b, Blocks{dst, E::kBytes});
  }
}

template <class E>
inline void encode_batches(const float* x, const float* w, int64_t batches, uint8_t* dst) {
  each_batch<E>(x, w, batches, dst, [](Batch& b, const Blocks& out) { E::encode(b, out); });
}

template <class E>
inline void encode_grid(const float* x, const float* w, int64_t batches, uint8_t* dst) {
  const Runs<typename E::Grid> runs;
  each_batch<E>(x, w, batches, dst, [&](Batch& b, const Blocks& out) { E::encode(b, runs, out); });
}

inline void encode_f16(const float* x, const float*, int64_t batches, uint8_t* dst) {
  for (int64_t i = 0; i < batches; ++i) store_f16(dst + 2 * kBatch * i, load(x + kBatch * i));
}

// It keeps the upper half, rounded to nearest, ties to even.
inline void encode_bf16(const float* x, const float*, int64_t batches, uint8_t* dst) {
  for (int64_t i = 0; i < kBatch * batches; ++i) {
    const uint32_t bits = bits_of_float(x[i]);
    store_u16(dst + 2 * i, static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16));
  }
}

inline void encode_f32(const float* x, const float*, int64_t batches, uint8_t* dst) {
  memcpy(dst, x, static_cast<size_t>(batches) * kBatch * sizeof(float));
}

// clang-format off
#define LLAMAQ_ENCODE_LIST(X) \
  X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) \
  X(TQ1_0) X(TQ2_0) X(MXFP4)
#define LLAMAQ_ENCODE_GRID_LIST(X) X(IQ1_S) X(IQ1_M) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S)
// clang-format on

constexpr EncodeTable make_encode_table(const char* isa, uint32_t needs) {
  EncodeTable t{};
  t.isa = isa;
  t.needs = needs;
  t.encode[static_cast<int>(Format::F32)] = encode_f32;
  t.encode[static_cast<int>(Format::F16)] = encode_f16;
  t.encode[static_cast<int>(Format::BF16)] = encode_bf16;
#define X(format) t.encode[static_cast<int>(Format::format)] = encode_batches<Encode_##format>;
  LLAMAQ_ENCODE_LIST(X)
#undef X
#define X(format) t.encode[static_cast<int>(Format::format)] = encode_grid<Encode_##format>;
  LLAMAQ_ENCODE_GRID_LIST(X)
#undef X
  return t;
}
