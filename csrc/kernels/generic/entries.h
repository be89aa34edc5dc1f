// The table of one instruction set, from the texts above.

template <class W>
constexpr MatmulKernel quantized(const char* name) {
  return {name, true, packed_bytes_format<W>, pack_format<W>, matmul_quantized<W>};
}
template <class W>
constexpr MatmulKernel floats(const char* name) {
  return {name, false, packed_bytes_floats<W::kBytes>, pack_floats<W::kBytes>, matmul_float<W>};
}

constexpr KernelTable make_table(const char* isa, uint32_t needs) {
  KernelTable t{};
  t.isa = isa;
  t.needs = needs;
#define X(format, function) t.dequantize[static_cast<int>(Format::format)] = function;
  LLAMAQ_DEQUANTIZE_LIST(X)
#undef X
#define X(format) t.matmul[static_cast<int>(Format::format)] = quantized<format>(#format "_i8_4x16");
  LLAMAQ_QUANTIZED_LIST(X)
#undef X
  t.matmul[static_cast<int>(Format::F32)] = floats<WeightsF32>("F32_f32_4x16");
  t.matmul[static_cast<int>(Format::F16)] = floats<WeightsF16>("F16_f32_4x16");
  t.matmul[static_cast<int>(Format::BF16)] = floats<WeightsBF16>("BF16_f32_4x16");
  t.quantize_row = quantize_row;
  t.rms_norm = rms_norm;
  t.layer_norm = layer_norm;
  t.add = add;
  t.scale = scale;
  t.softcap = softcap;
#define X(name) t.activate[static_cast<int>(Activation::name)] = activate<name>;
  X(silu)
  X(gelu)
  X(gelu_erf)
  X(sigmoid)
  X(relu2)
  X(gelu_quick)
#undef X
#define X(name) t.glu[static_cast<int>(Activation::name)] = glu<name##_glu>;
  X(silu)
  X(gelu)
  X(gelu_erf)
  X(sigmoid)
  X(clamped)
  X(relu2)
  X(gelu_quick)
#undef X
  t.exp_row = exp_row;
  t.rope = rope;
  t.short_conv = short_conv;
  t.delta_net = delta_net;
  t.ssm_scan = ssm_scan;
  t.store_kv = store_kv;
  t.attention = attention;
  t.merge_attention = merge_attention;
  t.attention_scratch = attention_scratch;
  t.attention_states = attention_states;
  t.read_bytes = read_bytes;
  t.int8_peak = int8_peak;
  return t;
}
