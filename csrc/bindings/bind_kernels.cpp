// This file binds single kernels, for `llamaq info` and the tests that compare levels.
#include <optional>

#include "bindings/bind.h"
#include "cpu/features.h"
#include "cpu/system.h"
#include "engine/activation.h"
#include "engine/cache_pages.h"
#include "engine/row_groups.h"
#include "engine/weights.h"
#include "kernels/dispatch.h"

namespace llamaq {

static std::vector<std::string> names_of(const std::vector<const KernelTable*>& tables) {
  std::vector<std::string> names;
  for (const KernelTable* table : tables) names.push_back(table->isa);
  return names;
}

static std::vector<std::tuple<int, int, int, bool>> cpus() {
  std::vector<std::tuple<int, int, int, bool>> rows;
  for (const CpuInfo& cpu : system_cpus()) rows.emplace_back(cpu.number, cpu.core, cpu.speed, cpu.allowed);
  return rows;
}

static std::pair<int64_t, int64_t> memory() {
  const MemoryInfo memory = system_memory();
  return {memory.total, memory.available};
}

static Array<float> dequantize(const std::string& isa, int id, const Array<uint8_t>& data) {
  const Format format = format_of(id);
  const FormatInfo& info = *format_info(id);
  if (data.size() % info.block_bytes) throw Error("the data are not whole blocks");
  const int64_t n = data.size() / info.block_bytes * info.block;
  Array<float> out(n);
  kernel_table(isa.c_str()).dequantize[static_cast<int>(format)](data.data(), out.mutable_data(), n);
  return out;
}

// Quantizes rows of floats, into groups or each by itself.
static std::vector<QuantBlock> quantized(const KernelTable& table, const float* x, int64_t rows, int64_t cols,
                                         bool grouped) {
  if (cols % 32) throw Error("activations are quantized in blocks of 32, got " + std::to_string(cols) + " columns");
  std::vector<QuantBlock> blocks(static_cast<size_t>(group_blocks(rows, cols)));
  for (int64_t i = 0; i < rows; ++i)
    if (grouped)
      quantize_into_group(table, x + i * cols, cols, i, rows, blocks.data());
    else
      table.quantize_row(x + i * cols, cols, blocks.data() + i * (cols / 32), 1);
  return blocks;
}

static std::vector<Bf16Block> round_to_bf16(const KernelTable& table, const float* x, int64_t rows, int64_t cols) {
  std::vector<Bf16Block> blocks(static_cast<size_t>(bf16_blocks(rows, cols)));
  for (int64_t i = 0; i < rows; ++i) round_into_group(table, x + i * cols, cols, i, rows, blocks.data());
  return blocks;
}

static py::tuple quantize_rows(const std::string& isa, const Array<float>& x) {
  if (x.ndim() != 2) throw Error("rows of activations are a matrix");
  const py::ssize_t rows = x.shape(0), n = x.shape(1) / 32;
  const std::vector<QuantBlock> blocks = quantized(kernel_table(isa.c_str()), x.data(), rows, x.shape(1), false);
  Array<int8_t> q({rows, n, py::ssize_t{32}});
  Array<float> d({rows, n}), d_sum({rows, n});
  Array<int32_t> sums({rows, n, py::ssize_t{8}});
  for (size_t i = 0; i < static_cast<size_t>(rows * n); ++i) {
    const QuantBlock& b = blocks[i];
    memcpy(q.mutable_data() + 32 * i, b.q, 32);
    d.mutable_data()[i] = b.d;
    d_sum.mutable_data()[i] = b.d_sum;
    const int32_t all[8] = {b.zero8,      b.zero16,     b.zero32[0],  b.zero32[1],
                            b.pair[0][0], b.pair[0][1], b.pair[1][0], b.pair[1][1]};
    memcpy(sums.mutable_data() + 8 * i, all, sizeof all);
  }
  return py::make_tuple(q, d, d_sum, sums);
}

// x (m, cols) times the transpose of GGUF rows `w` (rows, row bytes): packed and quantized once, run as often as wanted.
struct Matmul {
  Matmul(const std::string& isa, int id, const Array<uint8_t>& w, const Array<float>& input, bool fast)
      : weights(kernel_table(isa.c_str())), x(input) {
    const Format format = format_of(id);
    if (w.ndim() != 2 || x.ndim() != 2) throw Error("matmul takes two matrices");
    if (w.shape(1) != row_bytes(format, x.shape(1))) throw Error("the rows of w do not have the columns of x");
    ThreadTeam alone(1);
    weights.matrix(format, w.shape(0), x.shape(1), w.data());
    weights.pack(alone);
    if (fast && !weight().kernel->fast) throw Error("this level has no fast kernel for this format");
    if (fast)
      bf16 = round_to_bf16(weights.table(), x.data(), m(), x.shape(1));
    else if (weight().kernel->quantized_input)
      blocks = quantized(weights.table(), x.data(), m(), x.shape(1), true);
  }

  const Weight& weight() const { return weights.all()[0]; }
  int64_t m() const { return x.shape(0); }
  int64_t rows() const { return weight().rows; }

  // The product is made in pieces of `chunk` weight rows.
  void run(int64_t chunk, float* y, int64_t stride) const {
    if (chunk <= 0 || chunk % 16) throw Error("chunks are multiples of 16 rows");
    const void* from = blocks.empty() ? static_cast<const void*>(x.data()) : blocks.data();
    const auto kernel = bf16.empty() ? weight().kernel->run : weight().kernel->fast;
    for (int64_t begin = 0; begin < rows(); begin += chunk)
      kernel({weight().data, bf16.empty() ? from : bf16.data(), static_cast<int>(m()), rows(), weight().cols, begin,
              std::min(rows(), begin + chunk), y + begin, static_cast<ptrdiff_t>(stride)});
  }

  Weights weights;
  Array<float> x;
  std::vector<QuantBlock> blocks;
  std::vector<Bf16Block> bf16;  // filled where the kernel is the fast one
  std::vector<float> y;         // runs that are only timed write here
};

static void run_again(Matmul& self, int64_t chunk) {
  self.y.resize(static_cast<size_t>(self.m() * self.rows()));
  self.run(chunk, self.y.data(), self.rows());
}

// The outputs lie at odd addresses with guards between their rows; a kernel that touches a guard is an error.
static Array<float> matmul(const std::string& isa, int id, const Array<uint8_t>& w, const Array<float>& x,
                           int64_t chunk, bool fast) {
  const Matmul product(isa, id, w, x, fast);
  const int64_t rows = product.rows(), m = product.m();
  constexpr int64_t kGuard = 17;
  constexpr float kUntouched = -1.25e30f;
  const int64_t stride = rows + kGuard;
  std::vector<float> guarded(static_cast<size_t>(m * stride + kGuard), kUntouched);
  product.run(chunk, guarded.data() + kGuard, stride);
  Array<float> y({m, rows});
  for (int64_t i = 0; i < m; ++i) std::copy_n(guarded.data() + kGuard + i * stride, rows, y.mutable_data() + i * rows);
  for (int64_t i = 0; i <= m; ++i)
    for (int64_t j = 0; j < kGuard; ++j)
      if (guarded[static_cast<size_t>(i * stride + j)] != kUntouched)
        throw Error("a matmul kernel wrote past its outputs");
  return y;
}

// These are GGUF rows as the level's matmul kernel wants them.
static Array<uint8_t> pack_rows(const std::string& isa, int id, const Array<uint8_t>& w, int64_t cols) {
  const KernelTable& table = kernel_table(isa.c_str());
  const Format format = format_of(id);
  if (w.ndim() != 2 || w.shape(1) != row_bytes(format, cols)) throw Error("the rows of w do not have these columns");
  ThreadTeam alone(1);
  Weights weights(table);
  weights.matrix(format, w.shape(0), cols, w.data());
  weights.pack(alone);
  Array<uint8_t> out(packed_bytes(table, format, w.shape(0), cols));
  memcpy(out.mutable_data(), weights.all()[0].data, static_cast<size_t>(out.size()));
  return out;
}

static Array<float> rms_norm(const std::string& isa, const Array<float>& x, const Array<float>& w, float eps) {
  if (x.ndim() != 1 || w.size() != x.size()) throw Error("rms_norm takes a row and weights of its length");
  Array<float> y(x.size());
  kernel_table(isa.c_str()).rms_norm(x.data(), w.data(), eps, x.size(), y.mutable_data());
  return y;
}

static Array<float> layer_norm(const std::string& isa, const Array<float>& x, const Array<float>& w,
                               const std::optional<Array<float>>& b, float eps) {
  if (x.ndim() != 1 || w.size() != x.size() || (b && b->size() != x.size()))
    throw Error("layer_norm takes a row, weights and perhaps a bias of its length");
  Array<float> y(x.size());
  kernel_table(isa.c_str()).layer_norm(x.data(), w.data(), b ? b->data() : nullptr, eps, x.size(), y.mutable_data());
  return y;
}

static int activation(const std::string& name) {
  Attributes attributes("", {{"act", name}});
  return static_cast<int>(activation_of(attributes));
}

static Array<float> activate(const std::string& isa, const std::string& act, const Array<float>& x) {
  const auto kernel = kernel_table(isa.c_str()).activate[activation(act)];
  if (!kernel) throw Error("this activation needs a gate");
  Array<float> y(x.size());
  kernel(x.data(), y.mutable_data(), x.size());
  return y;
}

static Array<float> glu(const std::string& isa, const std::string& act, const Array<float>& gate,
                        const Array<float>& up) {
  if (gate.size() != up.size()) throw Error("glu takes two rows of one length");
  Array<float> y(gate.size());
  kernel_table(isa.c_str()).glu[activation(act)](gate.data(), up.data(), y.mutable_data(), gate.size());
  return y;
}

static Array<float> softcap(const std::string& isa, const Array<float>& x, float cap) {
  Array<float> y(x.size());
  std::copy_n(x.data(), x.size(), y.mutable_data());
  kernel_table(isa.c_str()).softcap(y.mutable_data(), cap, y.size());
  return y;
}

void bind_kernels(py::module_& m) {
  using py::arg;
  m.attr("BUILD") = LLAMAQ_BUILD;  // compiler, architecture, kind of build
  m.def("cpu_name", &cpu_name, "The processor's name; \"\" where it has none to tell.");
  m.def("system_cpus", &cpus, "Number, core, speed and whether it is allowed, of each CPU (Windows and macOS).");
  m.def("system_memory", &memory, "Bytes of memory, and of what is available; 0: not told (Windows and macOS).");
  m.def("built_isas", [] { return names_of(built_tables()); }, "SIMD levels that this build holds, slowest first.");
  m.def("isas", [] { return names_of(usable_tables()); }, "Those that this CPU runs.");
  m.def("chosen_isa", [] { return std::string(kernel_table().isa); }, "The level in use (LLAMAQ_ISA or the best).");
  m.def(
      "has_fast", [](const std::string& isa) { return kernel_table(isa.c_str()).bf16_row != nullptr; }, arg("isa") = "",
      "Whether a level has kernels of its own for numerics \"fast\".");
  m.def(
      "features_of",
      [](uint32_t ecx1, uint32_t ebx7, uint32_t ecx7, uint32_t edx7, uint32_t eax7_1, uint64_t xcr0) {
        return features_of({ecx1, ebx7, ecx7, edx7, eax7_1, xcr0});
      },
      arg("ecx1"), arg("ebx7"), arg("ecx7"), arg("edx7"), arg("eax7_1"), arg("xcr0"),
      "Feature bits that these answers of CPUID and XGETBV allow.");
  m.def(
      "kernel_name",
      [](const std::string& isa, int id) {
        return std::string(kernel_table(isa.c_str()).matmul[static_cast<int>(format_of(id))].name);
      },
      arg("isa"), arg("format"), "The matmul kernel of a format on a level (\"\": the chosen one).");
  m.def(
      "packed_bytes",
      [](int id, int64_t rows, int64_t cols) { return packed_bytes(kernel_table(), format_of(id), rows, cols); },
      arg("format"), arg("rows"), arg("cols"), "Bytes of a matrix once it is packed.");
  m.def(
      "page_bytes",
      [](int head_dim, int value_dim, int type) { return page_bytes(head_dim, value_dim, format_of(type)); },
      arg("head_dim"), arg("value_dim"), arg("type"),
      "Bytes of a cache page of one layer and KV head, of elements in a GGUF format.");
  m.attr("PAGE_TOKENS") = kPageTokens;
  m.def("dequantize", &dequantize, arg("isa"), arg("format"), arg("data"));
  m.def("quantize_rows", &quantize_rows, arg("isa"), arg("x"));
  m.def("matmul", &matmul, arg("isa"), arg("format"), arg("w"), arg("x"), arg("chunk") = 64, arg("fast") = false);
  py::class_<Matmul>(m, "Matmul", "A matmul to be timed: packed weights, quantized activations.")
      .def(py::init<const std::string&, int, const Array<uint8_t>&, const Array<float>&, bool>(), arg("isa"),
           arg("format"), arg("w"), arg("x"), arg("fast") = false)
      .def("run", &run_again, arg("chunk") = 64);
  m.def("pack", &pack_rows, arg("isa"), arg("format"), arg("w"), arg("cols"));
  m.def("rms_norm", &rms_norm, arg("isa"), arg("x"), arg("w"), arg("eps"));
  m.def("layer_norm", &layer_norm, arg("isa"), arg("x"), arg("w"), arg("b"), arg("eps"));
  m.def("activate", &activate, arg("isa"), arg("act"), arg("x"));
  m.def("glu", &glu, arg("isa"), arg("act"), arg("gate"), arg("up"));
  m.def("softcap", &softcap, arg("isa"), arg("x"), arg("cap"));
}

}  // namespace llamaq
