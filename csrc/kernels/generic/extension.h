// What a level that extends another has of its own: products of quantized weights.

constexpr KernelExtension make_extension(const char* isa, uint32_t needs, const KernelTable* base) {
  KernelExtension e{};
  e.isa = isa;
  e.needs = needs;
  e.base = base;
#define X(format) e.matmul[static_cast<int>(Format::format)].run = matmul_quantized<format>;
  LLAMAQ_QUANTIZED_LIST(X)
#undef X
  e.int8_peak = int8_peak;
  return e;
}
